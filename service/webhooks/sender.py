"""Sends the messages in the outbox, for as long as the service runs.

It runs in the API's process, not in a worker's, because workers should have no network access. Several replicas share
the outbox; each message is handled by one of them at a time.
"""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import structlog

from common.polling import PollingLoop, retry_pause
from jobs.errors import LedgerError
from jobs.webhooks.records import Outgoing
from jobs.webhooks.repository import WebhookRepository
from service.webhooks.delivery import Sender

_AT_ONCE: Final = 16
_POLL_S: Final = 1.0
_OUTAGE_S: Final = 5.0
_PRUNE_EVERY_S: Final = 3600.0
_KEPT_S: Final = 30 * 86_400.0
"""How long settled deliveries are kept in the log."""
_LEASE_MARGIN_S: Final = 30.0

log = structlog.get_logger(__name__)


class DeliveryLoop(PollingLoop):
    """Takes messages that are due and sends them: some at once, few of one owner, one at a time for each webhook."""

    def __init__(self, book: WebhookRepository, sender: Sender, retry_s: Sequence[float]) -> None:
        super().__init__("webhooks", self._send_due, every_s=_POLL_S, outage_s=_OUTAGE_S, outages=(LedgerError,))
        self._book = book
        self._sender = sender
        self._retry_s = tuple(retry_s)
        self._busy: dict[str, tuple[str, threading.Thread]] = {}
        self._lock = threading.Lock()
        self._next_prune = time.monotonic() + _PRUNE_EVERY_S

    def stop(self, patience_s: float = 2.0) -> None:
        """Stop; messages that take longer than ``patience_s`` are sent again by the next sender."""
        ends_at = time.monotonic() + patience_s
        super().stop(patience_s)
        with self._lock:
            under_way = list(self._busy.values())
        for _, thread in under_way:
            thread.join(max(0.0, ends_at - time.monotonic()))

    def _send_due(self) -> None:
        with self._lock:
            busy = set(self._busy)
            owners = Counter(owner for owner, _ in self._busy.values())
        if len(busy) < _AT_ONCE:
            lease_s = 2 * self._sender.timeout_s + _LEASE_MARGIN_S
            for message in self._book.take(limit=_AT_ONCE - len(busy), lease_s=lease_s, skip=busy, busy=owners):
                thread = threading.Thread(target=self._deliver, args=(message,), name="webhook", daemon=True)
                with self._lock:
                    self._busy[message.webhook_id] = message.owner, thread
                thread.start()
        if time.monotonic() >= self._next_prune:
            self._next_prune = time.monotonic() + _PRUNE_EVERY_S
            self._book.prune(older_than_s=_KEPT_S)

    def _deliver(self, message: Outgoing) -> None:
        try:
            outcome = self._sender.send(message)
            retry_in_s = None if outcome.final else retry_pause(self._retry_s, message.tries)
            self._book.settle(message.id, outcome.attempt, delivered=outcome.delivered, retry_in_s=retry_in_s)
            if outcome.gone:
                self._book.disable(message.webhook_id)
            log.info(
                "webhook.sent",
                delivery_id=message.id,
                webhook_id=message.webhook_id,
                status=outcome.attempt.status,
                error=outcome.attempt.error,
                retry_in_s=None if outcome.delivered else retry_in_s,
            )
        except LedgerError as error:
            # Its lease expires, and it is sent again.
            log.warning("webhook.unsettled", delivery_id=message.id, error=type(error).__name__)
        except Exception:
            log.exception("webhook.failed", delivery_id=message.id)
        finally:
            with self._lock:
                self._busy.pop(message.webhook_id, None)
            self.wake()
