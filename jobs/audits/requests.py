"""The half of the ledger that the API uses: submit, read, cancel and delete audits."""

import builtins
import hashlib
from collections.abc import Sequence
from typing import Final, Unpack

import structlog
from sqlalchemy import Connection, delete, update

from backdoor_audit.contract.lifecycle import TERMINAL
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs import decisions
from jobs.audits import events, listings, states, submissions
from jobs.audits import rows as audits
from jobs.audits.rows import Row
from jobs.audits.states import Action
from jobs.database import documents
from jobs.database.session import Session
from jobs.database.tables import audits as table
from jobs.errors import AuditNotTerminal, IdempotencyConflict, LedgerUnavailable, NoReport, ReportNotReady
from jobs.records import AuditFilters, AuditRecord, Event, Page, QueueCounts, Submission

log = structlog.get_logger(__name__)

_KEY_RACES: Final = 10


class AuditRequests(Session):
    """What a client may do. Every method is one transaction."""

    def submit(self, spec: AuditSpec, *, owner: str, idempotency_key: str | None = None) -> Submission:
        """File an audit; with a key that the owner has used before for the same spec, return that audit.

        Raises:
            IdempotencyConflict: the key was used for another spec.
            LibraryNotFound: the owner has no library as the spec names one.
            QueueFull: the owner's queue is full.
            UnknownWebhook: the spec names a webhook that the owner has not registered.
            ValueError: the owner or the key is empty, or longer than 255 characters.
        """
        submissions.check_name("owner", owner)
        if idempotency_key is not None:
            submissions.check_name("the idempotency key", idempotency_key)

        def work(connection: Connection) -> Submission:
            row, created = submissions.submit(
                connection, self._clock, self._policy, self._spec_cache, spec, owner, idempotency_key
            )
            return self._submission(connection, row, spec, created)

        for _ in range(_KEY_RACES):
            try:
                submission = self._write(work)
            except submissions.KeyTaken:
                continue
            if submission.created:
                log.info("audit.submitted", audit_id=submission.audit.id)
            return submission
        raise LedgerUnavailable("the idempotency key is being used by too many requests at once")

    def submit_batch(
        self, specs: Sequence[AuditSpec], *, owner: str, batch: str, idempotency_key: str | None = None
    ) -> tuple[Submission, ...]:
        """File the audits of a batch, all or none; with a key that was used before for the same specs, return those.

        Raises:
            IdempotencyConflict: the key was used for other specs.
            LibraryNotFound, QueueFull, UnknownWebhook, ValueError: as ``submit``.
        """
        submissions.check_name("owner", owner)
        keys: list[str | None] = [None] * len(specs)
        if idempotency_key is not None:
            named = hashlib.sha256(idempotency_key.encode()).hexdigest()
            keys = [f"batch:{named}:{number}" for number in range(len(specs))]

        def work(connection: Connection) -> tuple[Submission, ...]:
            there = listings.count_batch(connection, owner, batch)
            if there not in (0, len(specs)):
                raise IdempotencyConflict
            filed = []
            for spec, key in zip(specs, keys, strict=True):
                row, created = submissions.submit(
                    connection, self._clock, self._policy, self._spec_cache, spec, owner, key, batch
                )
                filed.append((row, spec, created))
            return tuple(self._submission(connection, *one) for one in filed)

        for _ in range(_KEY_RACES):
            try:
                made = self._write(work)
            except submissions.KeyTaken:
                continue
            log.info("batch.submitted", batch=batch, audits=len(made), created=sum(each.created for each in made))
            return made
        raise LedgerUnavailable("the idempotency key is being used by too many requests at once")

    def find_submission(self, spec: AuditSpec, owner: str, idempotency_key: str) -> Submission | None:
        """The audit that the owner has filed with this key; None if the key is new.

        Raises:
            IdempotencyConflict: the key was used for another spec.
            ValueError: the owner or the key is empty, or longer than 255 characters.
        """
        submissions.check_name("owner", owner)
        submissions.check_name("the idempotency key", idempotency_key)

        def work(connection: Connection) -> Submission | None:
            row = submissions.find(connection, spec.digest(), owner, idempotency_key)
            return None if row is None else self._submission(connection, row, spec, created=False)

        return self._read(work)

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
        page_size: int = 50,
        page_token: str | None = None,
        **filters: Unpack[AuditFilters],
    ) -> Page:
        """Return a page of audits, newest first; ``page_size`` is brought into 1–200.

        Raises:
            InvalidPageToken: the token is not one of ours, or was made for other filters.
        """

        def work(connection: Connection) -> Page:
            rows, token = listings.page(connection, filters, owner=owner, page_size=page_size, page_token=page_token)
            return Page(audits=tuple(self._records(connection, rows)), next_page_token=token)

        return self._read(work)

    def uses(self, reference: str) -> bool:
        """Return whether an audit that has not ended, whosever it is, names this model."""

        def work(connection: Connection) -> bool:
            # One after the other: together they may be gigabytes.
            for row in listings.open_audits(connection):
                spec = self._spec_cache.get(connection, [row])[row["id"]]
                if reference in (spec.base_model, spec.fine_tuned):
                    return True
            return False

        return self._read(work)

    def report(self, audit_id: str, *, owner: str | None = None) -> AuditReport:
        """Return the report of an audit.

        Raises:
            AuditNotFound: there is no such audit, or it is another owner's.
            ReportNotReady: the audit has not ended.
            NoReport: it ended without one.
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
            target = states.after(row["status"], Action.CANCEL)
            if target is not None and target != row["status"]:
                now = self._clock.read(connection)
                message = "cancelled" if target == "cancelled" else "a cancel was asked for"
                row = audits.transition(connection, row, now, Action.CANCEL, message)
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

    def _submission(self, connection: Connection, row: Row, spec: AuditSpec, created: bool) -> Submission:
        # With equal digests, the caller's spec is the stored one.
        place = self._places(connection, [row]).get(row["id"])
        decided = decisions.latest(connection, {row["id"]}).get(row["id"])
        return Submission(audit=audits.record(row, spec, place, decided), created=created)

    def _record(self, connection: Connection, row: Row) -> AuditRecord:
        return self._records(connection, [row])[0]

    def _records(self, connection: Connection, rows: Sequence[Row]) -> builtins.list[AuditRecord]:
        specs = self._spec_cache.get(connection, rows)
        places = self._places(connection, rows)
        decided = decisions.latest(connection, {row["id"] for row in rows if row["status"] == "succeeded"})
        return [audits.record(row, specs[row["id"]], places.get(row["id"]), decided.get(row["id"])) for row in rows]

    def _places(self, connection: Connection, rows: Sequence[Row]) -> dict[str, int]:
        return listings.queue_positions(connection, {row["id"] for row in rows if row["status"] == "queued"})
