"""Brings lost and forgotten audits back to the broker, and clears away what ended audits left on the disk."""

import threading
from typing import Final

import structlog

from jobs.errors import LedgerError, LedgerUnavailable
from jobs.ledger import Ledger
from storage.artifacts import ArtifactStore
from storage.errors import StorageError
from storage.locations import Artifacts
from storage.objects import ObjectArtifacts
from worker.dispatch import Dispatcher
from worker.errors import BrokerUnavailable

_PASSES_A_SWEEP: Final = 6

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


def sweep(ledger: Ledger, artifacts: Artifacts) -> list[str]:
    """Delete the artifacts of audits that ended without a report; return their ids.

    The attempt that ends an audit does this itself. What is found here was ended elsewhere: by the reaper, by a cancel
    in the queue, or by a worker that died right afterwards. A folder whose id the ledger does not know is left alone:
    it may be another ledger's.

    Raises:
        LedgerError: the ledger could not be asked.
        StorageError: the disk or the object store refused.
    """
    gone = ledger.without_report(artifacts.audits())
    for audit_id in gone:
        artifacts.delete(audit_id)
    if gone:
        _log.info("artifacts_swept", count=len(gone))
    return gone


def sweep_workspaces(ledger: Ledger, workspaces: ArtifactStore) -> list[str]:
    """Delete this machine's working copies of audits that are not open any more; return their ids.

    Only for workspaces whose artifacts are published elsewhere. One that the ledger does not know is a deleted audit's.

    Raises:
        LedgerError: the ledger could not be asked.
        StorageError: the disk refused.
    """
    ids = list(workspaces.audits())
    gone = sorted(set(ids) - set(ledger.still_open(ids)))
    for audit_id in gone:
        workspaces.delete(audit_id)
    if gone:
        _log.info("workspaces_swept", count=len(gone))
    return gone


class Reaper(threading.Thread):
    """Calls ``reap_once`` at once and then every ``reap_s`` seconds, and ``sweep`` with every sixth of them.

    Args:
        ledger: what is asked.
        dispatcher: where lost audits go.
        reap_s: seconds between two passes.
        patience_s: after the ledger was away, how long live workers have for renewing leases that ran out meanwhile.
        artifacts: what is swept; None sweeps nothing.
        published: the object store, where ``artifacts`` are working copies of what is kept there.
    """

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        *,
        reap_s: float,
        patience_s: float = 0,
        artifacts: ArtifactStore | None = None,
        published: ObjectArtifacts | None = None,
    ) -> None:
        super().__init__(name="reaper", daemon=True)
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._reap_s = reap_s
        self._patience_s = patience_s
        self._artifacts = artifacts
        self._published = published
        self._passes = 0
        self._ledger_was_away = False
        self._stop_event = threading.Event()

    def run(self) -> None:
        """Reap until told to stop."""
        while True:
            try:
                self._pass()
            except LedgerUnavailable as error:
                self._ledger_was_away = True
                _log.warning("reaper_waits", error=type(error).__name__)
            except (LedgerError, BrokerUnavailable, StorageError, OSError) as error:
                _log.warning("reaper_waits", error=type(error).__name__)
            except Exception:
                _log.exception("reaper_broke")
            if self._stop_event.wait(self._reap_s):
                return

    def stop(self, timeout_s: float = 5) -> None:
        """End the thread after the pass that it is in."""
        self._stop_event.set()
        self.join(timeout_s)

    def _pass(self) -> None:
        if self._ledger_was_away:
            self._ledger.ping()
            self._ledger_was_away = False
            if self._stop_event.wait(self._patience_s):
                return
        self._passes += 1
        reap_once(self._ledger, self._dispatcher)
        if self._artifacts is not None and self._passes % _PASSES_A_SWEEP == 1:
            if self._published is not None:
                sweep_workspaces(self._ledger, self._artifacts)
            sweep(self._ledger, self._published or self._artifacts)
