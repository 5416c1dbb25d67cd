"""Brings lost and forgotten audits back to the broker."""

import threading

import structlog

from jobs.errors import LedgerError
from jobs.ledger import Ledger
from worker.dispatch import Dispatcher
from worker.errors import BrokerUnavailable

_log = structlog.get_logger()


def reap_once(ledger: Ledger, dispatcher: Dispatcher) -> list[str]:
    """Take back lost leases and send on what the ledger hands out; return the ids that were sent.

    Nothing is sent while the broker holds as many messages as there are queued audits: they wait for a worker, and
    copies of them would only pile up.

    Raises:
        LedgerError: the ledger could not be asked.
        BrokerUnavailable: some ids were not sent; the ledger hands them out again later.
    """
    ids = ledger.reap()
    if not ids or dispatcher.queue_length() >= ledger.counts().queued:
        return []
    for audit_id in ids:
        dispatcher.enqueue(audit_id)
    _log.info("audits_enqueued_again", count=len(ids))
    return ids


class Reaper(threading.Thread):
    """Calls ``reap_once`` at once and then every ``reap_s`` seconds, whatever happens."""

    def __init__(self, ledger: Ledger, dispatcher: Dispatcher, *, reap_s: float) -> None:
        super().__init__(name="reaper", daemon=True)
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._reap_s = reap_s
        self._stop_event = threading.Event()

    def run(self) -> None:
        """Reap until told to stop."""
        while True:
            try:
                reap_once(self._ledger, self._dispatcher)
            except (LedgerError, BrokerUnavailable) as error:
                _log.warning("reaper_waits", error=type(error).__name__)
            except Exception:
                _log.exception("reaper_broke")
            if self._stop_event.wait(self._reap_s):
                return

    def stop(self, timeout_s: float = 5) -> None:
        """End the thread after the pass that it is in."""
        self._stop_event.set()
        self.join(timeout_s)
