"""Sends what is in the outbox, for as long as the service runs.

It lives in the API's process, not in a worker's: workers belong on a network without a way out. Several replicas share
the outbox; each message goes to one of them at a time.
"""

import random
import threading
import time
from collections.abc import Sequence
from typing import Final

import structlog

from jobs.errors import LedgerError
from jobs.webhooks.repository import Outgoing, WebhookBook
from service.webhooks.delivery import Sender

_AT_ONCE: Final = 4
_POLL_S: Final = 1.0
_OUTAGE_S: Final = 5.0
_PRUNE_EVERY_S: Final = 3600.0
_KEPT_S: Final = 30 * 86_400.0
"""How long settled deliveries stay in the log."""
_LEASE_MARGIN_S: Final = 30.0

log = structlog.get_logger(__name__)


class DeliveryLoop(threading.Thread):
    """Takes messages that are due and sends them, a few at once and one at a time for each webhook."""

    def __init__(self, book: WebhookBook, sender: Sender, retry_s: Sequence[float]) -> None:
        super().__init__(name="webhooks", daemon=True)
        self._book = book
        self._sender = sender
        self._retry_s = tuple(retry_s)
        self._busy: dict[str, threading.Thread] = {}
        self._wake = threading.Condition()
        self._stopping = False
        self._next_prune = time.monotonic() + _PRUNE_EVERY_S

    def run(self) -> None:
        """Send until told to stop."""
        while True:
            pause_s = _POLL_S
            try:
                self._pass()
            except LedgerError as error:
                log.warning("webhooks wait", error=type(error).__name__)
                pause_s = _OUTAGE_S
            except Exception:
                log.exception("webhooks broke")
                pause_s = _OUTAGE_S
            with self._wake:
                if self._stopping or (self._wake.wait(pause_s) and self._stopping):
                    return

    def stop(self, patience_s: float = 2.0) -> None:
        """End; what is under way for longer than ``patience_s`` is sent again by whoever comes next."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
            under_way = list(self._busy.values())
        ends_at = time.monotonic() + patience_s
        for thread in (self, *under_way):
            if thread.is_alive():
                thread.join(max(0.0, ends_at - time.monotonic()))

    def _pass(self) -> None:
        with self._wake:
            busy = set(self._busy)
        if len(busy) < _AT_ONCE:
            lease_s = 2 * self._sender.timeout_s + _LEASE_MARGIN_S
            for message in self._book.take(limit=_AT_ONCE - len(busy), lease_s=lease_s, skip=busy):
                thread = threading.Thread(target=self._deliver, args=(message,), name="webhook", daemon=True)
                with self._wake:
                    self._busy[message.webhook_id] = thread
                thread.start()
        if time.monotonic() >= self._next_prune:
            self._next_prune = time.monotonic() + _PRUNE_EVERY_S
            self._book.prune(older_than_s=_KEPT_S)

    def _deliver(self, message: Outgoing) -> None:
        try:
            outcome = self._sender.send(message)
            retry_in_s = None if outcome.final else self._pause_s(message.tries)
            self._book.settle(message.id, outcome.attempt, delivered=outcome.delivered, retry_in_s=retry_in_s)
            if outcome.gone:
                self._book.disable(message.webhook_id)
            log.info(
                "webhook sent",
                delivery_id=message.id,
                webhook_id=message.webhook_id,
                status=outcome.attempt.status,
                error=outcome.attempt.error,
                retry_in_s=None if outcome.delivered else retry_in_s,
            )
        except LedgerError as error:
            # Its lease ends, and it is sent again.
            log.warning("webhook not settled", delivery_id=message.id, error=type(error).__name__)
        except Exception:
            log.exception("webhook broke", delivery_id=message.id)
        finally:
            with self._wake:
                self._busy.pop(message.webhook_id, None)
                self._wake.notify_all()

    def _pause_s(self, tries: int) -> float | None:
        """Seconds until the next attempt, spread by a tenth so that many do not come at once; None after the last."""
        if tries >= len(self._retry_s):
            return None
        return self._retry_s[tries] * random.uniform(1.0, 1.1)
