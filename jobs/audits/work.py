"""The half of the ledger that workers use: claim audits, keep leases, end audits, and take back what was lost."""

from collections.abc import Callable, Iterable

import structlog
from sqlalchemy import Connection

from backdoor_audit.contract.lifecycle import Failure, Stage
from backdoor_audit.contract.report.audit_report import AuditReport
from jobs.audits import claims, listings, reaper, submissions
from jobs.audits.rows import Row
from jobs.database import schema
from jobs.database.session import Session
from jobs.records import Claim, Heartbeat

log = structlog.get_logger(__name__)


class AuditWork(Session):
    """What workers may do. Every method is one transaction, and every write with a claim is fenced by its attempt."""

    def claim(self, audit_id: str, *, worker: str) -> Claim | None:
        """Take a queued audit; None if it is not there, not queued, or taken by another at this moment.

        Raises:
            SchemaMismatch: the database was migrated by newer code since; an old worker takes no more work.
            SpecTooNew, DocumentUnreadable: newer code filed the audit; it stays queued for a newer worker.
            ValueError: the worker's name is empty, or longer than 255 characters.
        """
        submissions.check_name("worker", worker)

        def work(connection: Connection) -> Claim | None:
            schema.require(connection)
            return claims.claim(connection, self._clock, self._policy, self._spec_cache, audit_id, worker)

        claim = self._write(work)
        if claim is not None:
            log.info("audit.claimed", audit_id=audit_id, attempt=claim.attempt, worker=worker)
        return claim

    def take_turn(self, audit_id: str, *, worker: str) -> Claim | None:
        """Take a queued audit, on the message about ``audit_id``: of the owner whose turn it is, so maybe another one.

        None where nothing is queued that this code can read.

        Raises:
            SchemaMismatch: the database was migrated by newer code since; an old worker takes no more work.
            SpecTooNew, DocumentUnreadable: newer code filed the message's audit, and there is no other to take.
            ValueError: the worker's name is empty, or longer than 255 characters.
        """
        submissions.check_name("worker", worker)

        def work(connection: Connection) -> Claim | None:
            schema.require(connection)
            return claims.take_turn(connection, self._clock, self._policy, self._spec_cache, audit_id, worker)

        claim = self._write(work)
        if claim is not None:
            log.info("audit.claimed", audit_id=claim.audit_id, attempt=claim.attempt, worker=worker)
        return claim

    def heartbeat(self, claim: Claim) -> Heartbeat:
        """Extend the lease by ``lease_s`` from now, and learn whether to stop.

        Raises:
            LeaseLost: the claim was taken away or has ended.
        """
        return self._write(lambda connection: claims.heartbeat(connection, self._clock, self._policy, claim))

    def progress(self, claim: Claim, stage: Stage, fraction: float, message: str = "") -> bool:
        """Note that ``fraction`` (0–1) of ``stage`` is done, and learn whether a cancel was asked for.

        This is no heartbeat.

        Raises:
            LeaseLost: the claim was taken away or has ended.
        """

        def work(connection: Connection) -> bool:
            return claims.report_progress(connection, self._clock, claim, stage, fraction, message)

        return self._write(work)

    def succeed(self, claim: Claim, report: AuditReport) -> None:
        """End the audit with its report. Where a cancel came first, it ends ``cancelled`` and the report is dropped.

        Raises:
            LeaseLost: the claim was taken away or has ended.
            ValueError: the report is another audit's.
        """
        if report.audit_id != claim.audit_id:
            raise ValueError(f"the report of audit {report.audit_id} cannot end audit {claim.audit_id}")
        self._end(claim, lambda connection: claims.succeed(connection, self._clock, claim, report))

    def fail(self, claim: Claim, failure: Failure) -> None:
        """End the audit as failed; where a cancel came first, as ``cancelled``.

        Raises:
            LeaseLost: the claim was taken away or has ended.
        """
        self._end(claim, lambda connection: claims.fail(connection, self._clock, claim, failure))

    def cancelled(self, claim: Claim) -> None:
        """End the audit as cancelled, since its work has stopped.

        Raises:
            LeaseLost: the claim was taken away or has ended.
        """
        self._end(claim, lambda connection: claims.stop(connection, self._clock, claim))

    def release(self, claim: Claim) -> None:
        """Return the audit to the queue, for a graceful shutdown: the next ``reap`` hands it out, and the attempt does
        not count.

        Where a cancel came first, it ends ``cancelled``.

        Raises:
            LeaseLost: the claim was taken away or has ended.
        """
        self._end(claim, lambda connection: claims.release(connection, self._clock, claim))

    def lose(self, claim: Claim, message: str) -> None:
        """Say that the attempt's work is gone, so that nobody waits for its lease: it counts, as one that ran out does.

        The next ``reap`` hands the audit out; after ``max_attempts`` of them it fails with ``worker_lost``, and where a
        cancel came first it ends ``cancelled``.

        Raises:
            LeaseLost: the claim was taken away or has ended.
        """
        self._end(claim, lambda connection: claims.lose(connection, self._clock, self._policy, claim, message))

    def without_report(self, ids: Iterable[str]) -> list[str]:
        """Return those of ``ids`` that ended failed or cancelled: what they left behind serves nobody."""
        return self._read(lambda connection: listings.without_report(connection, ids))

    def still_open(self, ids: Iterable[str]) -> list[str]:
        """Return those of ``ids`` that are there and have not ended."""
        return self._read(lambda connection: listings.still_open(connection, ids))

    def reap(self) -> list[str]:
        """Deal with lost leases and forgotten audits; return the ids that the caller is to enqueue.

        A lost lease puts the audit back, or ends it: ``cancelled`` where a cancel was asked for, otherwise failed with
        ``deadline_exceeded`` or, after ``max_attempts`` of them, ``worker_lost``. Ids of audits that have been queued
        for ``requeue_after_s`` without being claimed come along. Any number of processes may call this at once: each id
        goes to one of them.
        """
        ids: list[str] = []
        now = self._read(self._clock.read)
        while self._read(lambda connection: reaper.anything_due(connection, now)):
            harvest = self._write(lambda connection: reaper.reap(connection, now, self._policy))
            for audit_id, status in harvest.lost:
                log.warning("audit.lost", audit_id=audit_id, status=status)
            ids += harvest.to_enqueue
            if harvest.looked_at < reaper.BATCH:
                break
        return ids

    def _end(self, claim: Claim, work: Callable[[Connection], Row]) -> None:
        row = self._write(work)
        log.info(f"audit.{row['status']}", audit_id=claim.audit_id, attempt=claim.attempt)
