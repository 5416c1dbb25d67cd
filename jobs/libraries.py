"""Benign libraries: scores of models that their owner vouches for, taken from finished audits."""

from collections.abc import Mapping
from typing import Any, Final

import structlog
from sqlalchemy import Connection, delete, exists, func, insert, select

from backdoor_audit.contract.benign_library import LibraryEntry, ModelScore
from backdoor_audit.contract.lifecycle import TERMINAL
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.audits import rows as audits
from jobs.clock import Clock
from jobs.database import documents, page_tokens
from jobs.database.connections import Transact
from jobs.database.tables import audit_libraries, libraries, library_entries
from jobs.database.tables import audits as audits_table
from jobs.database.tables import specs as specs_table
from jobs.database.upsert import insert_if_absent
from jobs.errors import (
    EntryExists,
    EntryNotFound,
    EntryRefused,
    LibraryFull,
    LibraryInUse,
    LibraryNameTaken,
    LibraryNotFound,
)
from jobs.ids import is_id, new_id
from jobs.records import EntryPage, Library, LibraryPage, StoredEntry

log = structlog.get_logger(__name__)

Row = Mapping[str, Any]

MAX_LIBRARIES: Final = 1_000
"""Libraries of one owner."""
MAX_ENTRIES: Final = 2_000
"""Models in one library: all of them travel with every audit that compares with it."""

_LIBRARY: Final = "library_"
_ENTRY: Final = "entry_"


class Libraries:
    """The benign libraries of a ledger. Every method is one transaction, and may raise what the ledger raises.

    An owner sees no other owner's libraries; ``reference`` is a library's id or its name.
    """

    def __init__(self, read: Transact, write: Transact, clock: Clock) -> None:
        self._read = read
        self._write = write
        self._clock = clock

    def create(self, name: str, *, owner: str) -> Library:
        """Create an empty library.

        Raises:
            LibraryNameTaken: the owner has one of this name.
            LibraryFull: the owner has the maximum number of libraries.
            ValueError: the name has the form of an id.
        """
        if is_id(name, _LIBRARY):
            raise ValueError("a name must not look like an id")

        def work(connection: Connection) -> Library:
            owned = select(func.count()).select_from(libraries).where(libraries.c.owner == owner)
            if connection.execute(owned).scalar_one() >= MAX_LIBRARIES:
                raise LibraryFull("the owner has the maximum number of libraries")
            at = self._clock.read(connection).at
            row: dict[str, Any] = {"id": new_id(_LIBRARY), "owner": owner, "name": name, "created_at": at}
            if not insert_if_absent(connection, libraries, row):
                raise LibraryNameTaken("the owner has a library of this name")
            return Library(**row, entries=0)

        made = self._write(work)
        log.info("library.created", library_id=made.id)
        return made

    def get(self, reference: str, *, owner: str) -> Library:
        """Return one library.

        Raises:
            LibraryNotFound: there is none.
        """
        return self._read(lambda connection: _library(connection, find(connection, reference, owner)))

    def list(self, *, owner: str, page_size: int = 50, page_token: str | None = None) -> LibraryPage:
        """Return a page of libraries, newest first; ``page_size`` is brought into 1–200.

        Raises:
            InvalidPageToken: the token is not one of ours, or of another listing.
        """
        size = min(max(page_size, 1), page_tokens.MAX_PAGE_SIZE)
        mark = page_tokens.mark("libraries", owner)
        query = select(libraries).where(libraries.c.owner == owner)
        if page_token is not None:
            last = page_tokens.last_id(page_token, mark, lambda text: is_id(text, _LIBRARY))
            query = query.where(libraries.c.id < last)
        query = query.order_by(libraries.c.id.desc()).limit(size + 1)

        def work(connection: Connection) -> LibraryPage:
            rows = [row._asdict() for row in connection.execute(query)]
            found = tuple(_library(connection, row) for row in rows[:size])
            return LibraryPage(found, page_tokens.token(found[-1].id, mark) if len(rows) > size else None)

        return self._read(work)

    def delete(self, reference: str, *, owner: str) -> None:
        """Remove a library with its entries.

        Raises:
            LibraryNotFound: there is none.
            LibraryInUse: an audit that has not ended compares with it.
        """

        def work(connection: Connection) -> None:
            row = find(connection, reference, owner, lock=True)
            uses = audit_libraries.join(audits_table, audits_table.c.id == audit_libraries.c.audit_id)
            waiting = exists().select_from(uses)
            waiting = waiting.where(audit_libraries.c.library_id == row["id"])
            waiting = waiting.where(audits_table.c.status.not_in(TERMINAL))
            if connection.execute(select(waiting)).scalar_one():
                raise LibraryInUse("an audit that has not ended compares with this library")
            connection.execute(delete(libraries).where(libraries.c.id == row["id"]))

        self._write(work)
        log.info("library.deleted")

    def add(
        self, reference: str, *, owner: str, audit_id: str, recipe: str | None, because: str | None = None
    ) -> StoredEntry:
        """Add the score of a finished audit, whose model the owner vouches is benign.

        Args:
            because: why, kept with the entry; the service asks for it if the verdict is not ``no_evidence``.

        Raises:
            LibraryNotFound: there is no such library.
            AuditNotFound: the owner has no such audit.
            EntryRefused: the audit has no score that a library could take.
            EntryExists: the library holds this model already.
            LibraryFull: the library is full.
        """

        def work(connection: Connection) -> StoredEntry:
            library = find(connection, reference, owner, lock=True)
            audit = audits.find(connection, audit_id, owner=owner)
            report = documents.get_report(connection, audit_id)
            if report is None:
                raise EntryRefused("the audit has not succeeded, so it has no score")
            entry = entry_of(report, recipe)
            held = select(func.count()).select_from(library_entries).where(_in(library["id"]))
            if connection.execute(held).scalar_one() >= MAX_ENTRIES:
                raise LibraryFull("the library is full")
            row = {
                "id": new_id(_ENTRY),
                "library_id": library["id"],
                "audit_id": audit["id"],
                "tuned_digest": entry.tuned_digest,
                "fine_tuned": _fine_tuned(connection, audit_id),
                "body": entry.model_dump_json(),
                "because": because,
                "created_at": self._clock.read(connection).at,
            }
            if not insert_if_absent(connection, library_entries, row):
                raise EntryExists("the library holds this model already")
            return _stored(row)

        stored = self._write(work)
        log.info("library.entry_added", library_id=stored.library_id, audit_id=audit_id)
        return stored

    def entries(self, reference: str, *, owner: str, page_size: int = 50, page_token: str | None = None) -> EntryPage:
        """Return a page of a library's entries, newest first; ``page_size`` is brought into 1–200.

        Raises:
            LibraryNotFound: there is no such library.
            InvalidPageToken: the token is not one of ours, or of another listing.
        """
        size = min(max(page_size, 1), page_tokens.MAX_PAGE_SIZE)

        def work(connection: Connection) -> EntryPage:
            library = find(connection, reference, owner)
            mark = page_tokens.mark("entries", library["id"])
            query = select(library_entries).where(_in(library["id"]))
            if page_token is not None:
                last = page_tokens.last_id(page_token, mark, lambda text: is_id(text, _ENTRY))
                query = query.where(library_entries.c.id < last)
            query = query.order_by(library_entries.c.id.desc()).limit(size + 1)
            rows = [row._asdict() for row in connection.execute(query)]
            found = tuple(map(_stored, rows[:size]))
            return EntryPage(found, page_tokens.token(found[-1].id, mark) if len(rows) > size else None)

        return self._read(work)

    def remove(self, reference: str, entry_id: str, *, owner: str) -> None:
        """Take a model out of a library. Audits that were claimed before keep the entry.

        Raises:
            LibraryNotFound: there is no such library.
            EntryNotFound: it holds no such entry.
        """

        def work(connection: Connection) -> None:
            library = find(connection, reference, owner)
            gone = connection.execute(
                delete(library_entries).where(_in(library["id"]), library_entries.c.id == entry_id)
            )
            if gone.rowcount == 0:
                raise EntryNotFound("there is no such entry in this library")

        self._write(work)
        log.info("library.entry_removed", entry_id=entry_id)


def entry_of(report: AuditReport, recipe: str | None) -> LibraryEntry:
    """Return the score of a report as an entry.

    Raises:
        EntryRefused: nothing was measured, the report has no score or is of several pairs, or the model is its
            own base.
    """
    gate, tuned = report.gates.calibrated, report.provenance.tuned_digest
    if report.verdict == "invalid":
        raise EntryRefused("the audit is invalid: nothing was measured")
    if report.candidates:
        raise EntryRefused("the audit is of several candidates; a library takes scores of audits of one pair")
    if gate.score is None or gate.effect_nats is None or gate.noise_nats is None or gate.key is None:
        raise EntryRefused("the audit's report has no score; audit the model again")
    if not tuned or not gate.key.base_digest:
        raise EntryRefused("the audit's report does not say which models it is about")
    if tuned == gate.key.base_digest:
        raise EntryRefused("the audited model is its own base, which is no fine-tune")
    score = ModelScore(score=gate.score, effect_nats=gate.effect_nats, noise_nats=gate.noise_nats, key=gate.key)
    return LibraryEntry(**score.model_dump(), tuned_digest=tuned, recipe=recipe)


def attach(connection: Connection, audit_id: str, reference: str, owner: str) -> None:
    """Note which library a new audit compares with.

    Raises:
        LibraryNotFound: the owner has none of this id or name.
    """
    # Locked, so that it is not deleted before this audit can be seen to use it.
    library = find(connection, reference, owner, lock=True)
    connection.execute(insert(audit_libraries).values(audit_id=audit_id, library_id=library["id"]))


def of_audit(connection: Connection, audit_id: str) -> tuple[LibraryEntry, ...]:
    """Return the scores that an audit compares with, in the order in which they were added."""
    query = (
        select(library_entries.c.body)
        .join(audit_libraries, audit_libraries.c.library_id == library_entries.c.library_id)
        .where(audit_libraries.c.audit_id == audit_id)
        .order_by(library_entries.c.id)
    )
    return tuple(map(_parse, connection.execute(query).scalars()))


def find(connection: Connection, reference: str, owner: str, *, lock: bool = False) -> Row:
    """Return a library's row by its id or name.

    Raises:
        LibraryNotFound: the owner has none of this id or name.
    """
    column = libraries.c.id if is_id(reference, _LIBRARY) else libraries.c.name
    query = select(libraries).where(libraries.c.owner == owner, column == reference)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise LibraryNotFound(reference)
    return row._asdict()


def _in(library_id: str) -> Any:
    return library_entries.c.library_id == library_id


def _library(connection: Connection, row: Row) -> Library:
    count = select(func.count()).select_from(library_entries).where(_in(row["id"]))
    return Library(**row, entries=connection.execute(count).scalar_one())


def _stored(row: Row) -> StoredEntry:
    names = ("id", "library_id", "audit_id", "fine_tuned", "because", "created_at")
    return StoredEntry(**{name: row[name] for name in names}, entry=_parse(row["body"]))


def _parse(body: str) -> LibraryEntry:
    return documents.parse(LibraryEntry, body)


def _fine_tuned(connection: Connection, audit_id: str) -> str:
    body = connection.execute(select(specs_table.c.body).where(specs_table.c.audit_id == audit_id)).scalar_one()
    return documents.parse(AuditSpec, body).fine_tuned
