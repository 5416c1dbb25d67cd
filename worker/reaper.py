"""Sends lost and forgotten audits to the broker again, and deletes what ended audits left on the disk."""

from collections.abc import Iterable
from typing import Final

import structlog

from common.polling import PollingLoop
from jobs.errors import LedgerError, LedgerUnavailable
from jobs.ledger import Ledger
from storage.artifacts import ArtifactStore
from storage.errors import StorageError
from storage.locations import Artifacts
from storage.objects import ObjectArtifacts
from worker.dispatch import Dispatcher
from worker.errors import BrokerUnavailable

_PASSES_A_SWEEP: Final = 6

log = structlog.get_logger(__name__)


def reap_once(ledger: Ledger, dispatcher: Dispatcher) -> list[str]:
    """Take back lost leases, and enqueue what the ledger hands out; return the enqueued ids.

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
    log.info("audits.requeued", count=len(ids))
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
    gone = _deleted(artifacts, ledger.without_report(artifacts.audits()))
    if gone:
        log.info("artifacts.swept", count=len(gone))
    return gone


def _deleted(artifacts: Artifacts, ids: Iterable[str]) -> list[str]:
    """Delete what can be deleted; return whose it was. One audit's leftovers keep nobody else's."""
    gone: list[str] = []
    for audit_id in ids:
        try:
            artifacts.delete(audit_id)
        except (StorageError, OSError) as error:
            log.warning("artifacts.left", audit_id=audit_id, error=type(error).__name__)
        else:
            gone.append(audit_id)
    return gone


def sweep_workspaces(ledger: Ledger, workspaces: ArtifactStore) -> list[str]:
    """Delete this machine's working copies of audits that are not open any more; return their ids.

    Only for workspaces whose artifacts are published elsewhere. One that the ledger does not know is a deleted audit's.

    Raises:
        LedgerError: the ledger could not be asked.
        StorageError: the disk refused.
    """
    ids = list(workspaces.audits())
    gone = _deleted(workspaces, sorted(set(ids) - set(ledger.still_open(ids))))
    if gone:
        log.info("workspaces.swept", count=len(gone))
    return gone


class Reaper(PollingLoop):
    """Calls ``reap_once`` at once and then every ``reap_s`` seconds, and ``sweep`` with every sixth of them.

    Args:
        ledger: where audits are looked up.
        dispatcher: where lost audits go.
        reap_s: seconds between two passes.
        patience_s: after an outage of the ledger, how long live workers may take to renew leases that ran out.
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
        outages = (LedgerError, BrokerUnavailable, StorageError, OSError)
        super().__init__("reaper", self.step, every_s=reap_s, outages=outages)
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._patience_s = patience_s
        self._artifacts = artifacts
        self._published = published
        self._passes = 0
        self._ledger_was_away = False

    def step(self) -> float | None:
        """Reap once, and sweep every sixth time; after an outage of the ledger, wait first.

        Raises:
            LedgerError, BrokerUnavailable, StorageError, OSError: something is down; the next pass tries again.
        """
        if self._ledger_was_away:
            self._ledger.ping()
            self._ledger_was_away = False
            return self._patience_s
        try:
            self._reap()
        except LedgerUnavailable:
            self._ledger_was_away = True
            raise
        return None

    def _reap(self) -> None:
        self._passes += 1
        reap_once(self._ledger, self._dispatcher)
        if self._artifacts is not None and self._passes % _PASSES_A_SWEEP == 1:
            if self._published is not None:
                sweep_workspaces(self._ledger, self._artifacts)
            sweep(self._ledger, self._published or self._artifacts)
