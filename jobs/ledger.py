"""The ledger: the one door to the database, and the truth about every audit."""

import builtins
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, TypeVar

import structlog
from sqlalchemy import Connection, delete, text, update

from backdoor_audit.contract.report import AuditReport
from backdoor_audit.contract.spec import TERMINAL, AuditSpec, Failure, Stage, Status
from backdoor_audit.contract.verdicts import Verdict
from jobs.audits import claims, events, listings, reaper, states, submissions
from jobs.audits import rows as audits
from jobs.audits.rows import Row
from jobs.audits.states import Signal
from jobs.clock import BootClock, Clock, DatabaseClock
from jobs.database import documents, schema
from jobs.database.connections import Database
from jobs.database.tables import audits as table
from jobs.errors import AuditNotTerminal, LedgerUnavailable, NoReport, ReportNotReady
from jobs.keys import KeyRing
from jobs.libraries import Libraries
from jobs.policy import Policy
from jobs.records import AuditRecord, Claim, Event, Heartbeat, Page, QueueCounts, Submission
from jobs.version_tags import TagBook
from jobs.webhooks.repository import WebhookBook

log = structlog.get_logger(__name__)

T = TypeVar("T")

_KEY_RACES: Final = 10


class Ledger:
    """Audit rows, attempts, leases, events, idempotency keys, API keys, webhooks. Safe with threads and across a fork.

    Every method may raise ``LedgerUnavailable`` (try again later) and ``SchemaMismatch`` (migrate first, or run the
    code that fits). Each writing method is one transaction: whole, or nothing of it. Where the connection breaks while
    a transaction commits, the call raises and nobody can say which; calling again is safe for all but a ``submit``
    without a key: they are fenced, keyed, or the same when done twice.
    """

    def __init__(
        self,
        url: str,
        *,
        lease_s: float = 60,
        max_attempts: int = 3,
        requeue_after_s: float = 60,
        max_queued: int | None = None,
        busy_s: float = 10,
    ) -> None:
        """Open nothing yet; the first call connects.

        Args:
            url: ``sqlite:///path/to/file`` or ``postgresql://user@host/database``. PostgreSQL gets our timeouts as
                start-up options; ``?options=…`` in the URL takes their place (for a pooler that refuses them).
            lease_s: how long a claim lives without a heartbeat, seconds.
            max_attempts: lost attempts after which an audit fails with ``worker_lost``.
            requeue_after_s: how long a queued audit waits until ``reap`` hands it out once more, seconds.
            max_queued: how many queued audits one owner may have; None for any number.
            busy_s: how long a write waits for a database that others keep locked, seconds.

        Raises:
            ValueError: a setting makes no sense, or the URL is of another database.
        """
        self._policy = Policy(
            lease_s=lease_s, max_attempts=max_attempts, requeue_after_s=requeue_after_s, max_queued=max_queued
        )
        self._database = Database(url, busy_s=busy_s)
        self._clock: Clock = BootClock() if self._database.is_sqlite else DatabaseClock()
        self._shelf = documents.SpecShelf()
        self._schema_seen = False
        self.keys: Final = KeyRing(self._read, self._write, self._clock)
        self.libraries: Final = Libraries(self._read, self._write, self._clock)
        """The benign libraries."""
        self.webhooks: Final = WebhookBook(self._read, self._write, self._clock)
        self.tags: Final = TagBook(self._read, self._write, self._clock)
        """What is to be written to the registry."""

    # The database as a whole

    def migrate(self) -> None:
        """Bring the schema up to date; several processes may call this at once."""
        schema.migrate(self._database)

    def schema_is_current(self) -> bool:
        """Say whether the database has the schema that this code needs."""
        with self._database.reading() as connection:
            return schema.revision_of(connection) == schema.newest_revision()

    def ping(self) -> None:
        """Ask the database for a sign of life.

        Raises:
            LedgerUnavailable: there is none.
        """
        with self._database.reading() as connection:
            connection.execute(text("SELECT 1"))

    def now(self) -> datetime:
        """Return the time by the clock that leases use, UTC."""
        return self._read(self._clock.read).at

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    # For those who ask for audits

    def submit(self, spec: AuditSpec, *, owner: str, idempotency_key: str | None = None) -> Submission:
        """File an audit; with a key that the owner has used before for the same spec, return that audit.

        Raises:
            IdempotencyConflict: the key was used for another spec.
            LibraryNotFound: the owner has no library as the spec names one.
            QueueFull: the owner has as many audits queued as one may have.
            UnknownWebhook: the spec names an address that is none of the owner's webhooks.
            ValueError: the owner or the key is empty, or longer than 255 characters.
        """
        submissions.check_name("owner", owner)
        if idempotency_key is not None:
            submissions.check_name("the idempotency key", idempotency_key)

        def work(connection: Connection) -> tuple[Row, bool]:
            return submissions.submit(connection, self._clock, self._policy, self._shelf, spec, owner, idempotency_key)

        for _ in range(_KEY_RACES):
            try:
                row, created = self._write(work)
            except submissions.KeyTaken:
                continue
            if created:
                log.info("audit.submitted", audit_id=row["id"])
            # With equal digests, the caller's spec is the stored one.
            return Submission(audit=audits.record(row, spec), created=created)
        raise LedgerUnavailable("the idempotency key is being used by too many requests at once")

    def get(self, audit_id: str, *, owner: str | None = None) -> AuditRecord:
        """Return one audit.

        Raises:
            AuditNotFound: there is none, or it is another owner's.
        """
        return self._read(lambda connection: self._record(connection, audits.find(connection, audit_id, owner=owner)))

    def list(
        self,
        *,
        owner: str | None = None,
        status: Status | None = None,
        verdict: Verdict | None = None,
        tuned_digest: str | None = None,
        spec_digest: str | None = None,
        page_size: int = 50,
        page_token: str | None = None,
    ) -> Page:
        """Return a page of audits, newest first; ``page_size`` is brought into 1–200.

        Only an audit that has succeeded has a ``tuned_digest``.

        Raises:
            InvalidPageToken: the token is not one of ours, or was made for other filters.
        """

        def work(connection: Connection) -> Page:
            rows, token = listings.page(
                connection,
                owner=owner,
                status=status,
                verdict=verdict,
                tuned_digest=tuned_digest,
                spec_digest=spec_digest,
                page_size=page_size,
                page_token=page_token,
            )
            specs = self._shelf.get(connection, rows)
            found = tuple(audits.record(row, specs[row["id"]]) for row in rows)
            return Page(audits=found, next_page_token=token)

        return self._read(work)

    def uses(self, reference: str) -> bool:
        """Say whether an audit that has not ended, whosever it is, names this model."""

        def work(connection: Connection) -> bool:
            specs = self._shelf.get(connection, listings.open_audits(connection)).values()
            return any(reference in (spec.base_model, spec.fine_tuned) for spec in specs)

        return self._read(work)

    def report(self, audit_id: str, *, owner: str | None = None) -> AuditReport:
        """Return the report of an audit.

        Raises:
            AuditNotFound: there is no such audit, or it is another owner's.
            ReportNotReady: the audit has not succeeded.
        """

        def work(connection: Connection) -> AuditReport:
            row = audits.find(connection, audit_id, owner=owner)
            report = documents.get_report(connection, audit_id)
            if report is None:
                raise (NoReport if row["status"] in TERMINAL else ReportNotReady)(audit_id, row["status"])
            return report

        return self._read(work)

    def events(self, audit_id: str, *, after: int = 0, limit: int = 500) -> builtins.list[Event]:
        """Return the history of an audit from the event after number ``after``; empty for an unknown audit."""
        return self._read(lambda connection: events.read(connection, audit_id, after=after, limit=limit))

    def request_cancel(self, audit_id: str, *, owner: str | None = None) -> AuditRecord:
        """Cancel a queued audit at once, ask a running one to stop; leave one that has ended as it is.

        Raises:
            AuditNotFound: there is none, or it is another owner's.
        """

        def work(connection: Connection) -> AuditRecord:
            row = audits.lock(connection, audit_id, owner=owner)
            target = states.after(row["status"], Signal.CANCEL)
            if target is not None and target != row["status"]:
                now = self._clock.read(connection)
                message = "cancelled" if target == "cancelled" else "a cancel was asked for"
                row = audits.transition(connection, row, now, Signal.CANCEL, message)
            return self._record(connection, row)

        record = self._write(work)
        log.info("audit.cancel_requested", audit_id=audit_id, status=record.status)
        return record

    def delete(self, audit_id: str, *, owner: str | None = None) -> None:
        """Remove an audit that has ended, with its report, events and key. When this returns, delete its artifacts.

        Raises:
            AuditNotFound: there is none, or it is another owner's.
            AuditNotTerminal: it has not ended.
        """

        def work(connection: Connection) -> None:
            row = audits.lock(connection, audit_id, owner=owner)
            if row["status"] not in TERMINAL:
                raise AuditNotTerminal(audit_id, row["status"])
            connection.execute(delete(table).where(table.c.id == audit_id))

        self._write(work)
        log.info("audit.deleted", audit_id=audit_id)

    def mark_enqueued(self, audit_id: str) -> None:
        """Note that the id was put on the broker, so that ``reap`` does not hand it out for ``requeue_after_s``."""

        def work(connection: Connection) -> None:
            due = self._clock.read(connection).due_in(self._policy.requeue_after_s)
            connection.execute(update(table).where(table.c.id == audit_id, table.c.status == "queued").values(**due))

        self._write(work)

    def counts(self) -> QueueCounts:
        """Return the numbers for the metrics."""
        return self._read(lambda connection: listings.counts(connection, self._clock))

    # For workers

    def claim(self, audit_id: str, *, worker: str) -> Claim | None:
        """Take a queued audit; None where it is not there, not queued, or taken by another at this moment.

        Raises:
            SchemaMismatch: the database was migrated by newer code since; an old worker takes no more work.
            SpecTooNew, DocumentUnreadable: newer code filed the audit; it stays queued for a newer worker.
            ValueError: the worker's name is empty, or longer than 255 characters.
        """
        submissions.check_name("worker", worker)

        def work(connection: Connection) -> Claim | None:
            schema.require(connection)
            return claims.claim(connection, self._clock, self._policy, self._shelf, audit_id, worker)

        claim = self._write(work)
        if claim is not None:
            log.info("audit.claimed", audit_id=audit_id, attempt=claim.attempt, worker=worker)
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
        """Give the audit back, for a graceful shutdown: the next ``reap`` hands it out, and the attempt does not count.

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

    def without_report(self, ids: Iterable[str]) -> builtins.list[str]:
        """Return those of ``ids`` that ended failed or cancelled: what they left behind serves nobody."""
        return self._read(lambda connection: listings.without_report(connection, ids))

    def still_open(self, ids: Iterable[str]) -> builtins.list[str]:
        """Return those of ``ids`` that are there and have not ended."""
        return self._read(lambda connection: listings.still_open(connection, ids))

    def reap(self) -> builtins.list[str]:
        """Deal with lost leases and forgotten audits; return the ids that the caller is to enqueue.

        A lost lease puts the audit back, or ends it: ``cancelled`` where a cancel was asked for, else failed with
        ``deadline_exceeded`` or, after ``max_attempts`` of them, ``worker_lost``. Ids of audits that have been queued
        for ``requeue_after_s`` without being claimed come along. Any number of processes may call this at once: each id
        goes to one of them.
        """
        ids: list[str] = []
        now = self._read(self._clock.read)
        while self._read(lambda connection: reaper.anything_due(connection, now)):
            harvest = self._write(lambda connection: reaper.reap(connection, now, self._policy))
            for audit_id, status in harvest.lost:
                log.warning("audit.worker_lost", audit_id=audit_id, status=status)
            ids += harvest.to_enqueue
            if harvest.looked_at < reaper.BATCH:
                break
        return ids

    # Inside

    def _record(self, connection: Connection, row: Row) -> AuditRecord:
        return audits.record(row, self._shelf.get(connection, [row])[row["id"]])

    def _end(self, claim: Claim, work: Callable[[Connection], Row]) -> None:
        row = self._write(work)
        log.info(f"audit.{row['status']}", audit_id=claim.audit_id, attempt=claim.attempt)

    def _read(self, work: Callable[[Connection], T]) -> T:
        self._require_schema()
        with self._database.reading() as connection:
            return work(connection)

    def _write(self, work: Callable[[Connection], T]) -> T:
        self._require_schema()
        return self._database.write(work)

    def _require_schema(self) -> None:
        """Check the schema before the first use; a mismatch is looked at again each time, as it may be mended."""
        if self._schema_seen:
            return
        with self._database.reading() as connection:
            schema.require(connection)
        self._schema_seen = True
