"""The tags of registered versions: noted when an audit ends, written by whoever takes the note.

As with webhooks, the note is written in the transaction that makes it true. There is one note per version, and its tags
are made from all audits of the version at the time of writing: attempts can be repeated, and of two audits that end
together neither overwrites the other's answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, case, delete, select, update

from backdoor_audit.contract.lifecycle import TERMINAL, Status
from backdoor_audit.contract.report.verdicts import BY_WEIGHT, Verdict
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.clock import Clock, Instant
from jobs.database import documents
from jobs.database.connections import Transact
from jobs.database.due import NOT_DUE, is_due
from jobs.database.tables import audits, version_tags
from jobs.database.upsert import upsert

Row = Mapping[str, Any]

_PREFIX: Final = "mlflow:"


@dataclass(frozen=True)
class TagTask:
    """A version whose tags are to be written, taken for as long as the writer said."""

    reference: str
    generation: int
    tries: int
    """Attempts before this one."""


@dataclass(frozen=True)
class Answer:
    """The gravest verdict of a version's audits; the latest of several such."""

    audit_id: str
    verdict: Verdict
    finished_at: datetime
    tuned_digest: str
    method_version: str


@dataclass(frozen=True)
class Ends:
    """How the audits of a version have ended, whoever filed them."""

    last_id: str
    last_status: Status
    answer: Answer | None
    """None if none of them has succeeded."""


class VersionTagRepository:
    """The notes of a ledger. Every method is one transaction, and may raise what the ledger raises."""

    def __init__(self, read: Transact, write: Transact, clock: Clock) -> None:
        self._read = read
        self._write = write
        self._clock = clock

    def take(self, *, lease_s: float) -> TagTask | None:
        """Take a version whose tags are due; nobody else gets it for ``lease_s``. None if none is due."""

        def due(connection: Connection) -> Any:
            return is_due(version_tags, self._clock.read(connection))

        def anything(connection: Connection) -> bool:
            query = select(version_tags.c.reference).where(due(connection)).limit(1)
            return connection.execute(query).first() is not None

        def work(connection: Connection) -> TagTask | None:
            query = select(version_tags).where(due(connection)).order_by(version_tags.c.due_tick).limit(1)
            found = connection.execute(query.with_for_update(skip_locked=True)).first()
            if found is None:
                return None
            lease = self._clock.read(connection).due_in(lease_s)
            here = version_tags.c.reference == found.reference
            connection.execute(update(version_tags).where(here).values(leased=True, **lease))
            return TagTask(found.reference, found.generation, found.tries)

        # Looking first keeps an idle writer from taking SQLite's one write lock every second.
        return self._write(work) if self._read(anything) else None

    def ends(self, reference: str, *, tuned_digest: str | None = None, since: datetime | None = None) -> Ends | None:
        """Return how the audits of a version have ended; None if all of them were deleted since.

        A name can be given to other weights, so an answer counts only if it is about those that are meant.

        Args:
            reference: the version.
            tuned_digest: content digest of the weights that are meant; None for any.
            since: when they got that name; None for any time.
        """

        def work(connection: Connection) -> Ends | None:
            here = (audits.c.registered_version == reference) & audits.c.status.in_(TERMINAL)
            query = select(audits.c.id, audits.c.status, audits.c.verdict, audits.c.finished_at, audits.c.tuned_digest)
            rows = [row._asdict() for row in connection.execute(query.where(here)).all()]
            if not rows:
                return None
            rows.sort(key=lambda row: (row["finished_at"], row["id"]), reverse=True)
            meant = [
                row
                for row in rows
                if tuned_digest in (None, row["tuned_digest"]) and (since is None or row["finished_at"] >= since)
            ]
            return Ends(rows[0]["id"], rows[0]["status"], _gravest(connection, meant))

        return self._read(work)

    def settle(self, task: TagTask, *, error: str | None, retry_in_s: float | None) -> None:
        """Record how an attempt ended. If another audit has ended meanwhile, the tags are due again at once."""

        def work(connection: Connection) -> None:
            here = version_tags.c.reference == task.reference
            found = connection.execute(select(version_tags).where(here).with_for_update()).one_or_none()
            if found is None:
                return
            now = self._clock.read(connection)
            values: dict[str, Any] = {
                "error": error,
                "changed_at": now.at,
                "tries": task.tries + 1,
                "leased": False,
            }
            if found.generation != task.generation:
                values |= {"tries": 0, **now.due_in(0)}
            elif error is not None and retry_in_s is not None:
                values |= now.due_in(retry_in_s)
            else:
                state = "written" if error is None else "failed"
                values |= {"state": state, **NOT_DUE}
            connection.execute(update(version_tags).where(here).values(**values))

        self._write(work)

    def prune(self, *, older_than_s: float) -> int:
        """Delete notes that have not changed for this long; return how many."""

        def work(connection: Connection) -> int:
            limit = self._clock.read(connection).at - timedelta(seconds=older_than_s)
            return connection.execute(delete(version_tags).where(version_tags.c.changed_at < limit)).rowcount

        return self._write(work)


def registered_version(spec: AuditSpec) -> str | None:
    """Return the version of a registered model that a spec audits; None if it audits another checkpoint."""
    return spec.fine_tuned if spec.fine_tuned.startswith(_PREFIX) else None


def note_end(connection: Connection, row: Row, now: Instant) -> None:
    """Note that the tags of an audit's version are due; ``row`` is the audit's, which has just ended."""
    if row["registered_version"] is None:
        return
    due = now.due_in(0)
    fresh: dict[str, Any] = {"state": "pending", "tries": 0, "error": None, "changed_at": now.at}
    new = {"reference": row["registered_version"], "generation": 1, "leased": False, **fresh, **due}
    # Tags that are being written stay with their writer, who sees by the generation that they are out of date.
    later = {name: case((version_tags.c.leased, version_tags.c[name]), else_=value) for name, value in due.items()}
    upsert(connection, version_tags, new, {"generation": version_tags.c.generation + 1, **fresh, **later})


def _gravest(connection: Connection, rows: list[dict[str, Any]]) -> Answer | None:
    """The gravest answer of ``rows``, which are sorted from the last to the first."""
    for verdict in BY_WEIGHT:
        for row in rows:
            if row["verdict"] == verdict:
                report = documents.get_report(connection, row["id"])
                method = "" if report is None else report.method_version
                return Answer(row["id"], verdict, row["finished_at"], row["tuned_digest"] or "", method)
    return None
