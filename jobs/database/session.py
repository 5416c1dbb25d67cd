"""Transactions of the ledger: read or write with the schema checked, and what every part of the ledger needs for it."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from jobs.clock import BootClock, Clock, DatabaseClock
from jobs.database import schema
from jobs.database.connections import Database
from jobs.database.documents import SpecCache
from jobs.policy import Policy

T = TypeVar("T")


class Session:
    """The database, its clock and the ledger's settings. Safe with threads and across a fork."""

    def __init__(self, database: Database, policy: Policy, clock: Clock | None = None) -> None:
        self._database = database
        self._policy = policy
        self._clock: Clock = clock or (BootClock() if database.is_sqlite else DatabaseClock())
        self._spec_cache = SpecCache()
        self._schema_checked = False

    def _read(self, work: Callable[[Connection], T]) -> T:
        self._require_schema()
        with self._database.reading() as connection:
            return work(connection)

    def _write(self, work: Callable[[Connection], T], *, busy_s: float | None = None) -> T:
        self._require_schema()
        return self._database.write(work, busy_s=busy_s)

    def _require_schema(self) -> None:
        """Check the schema before the first use; a mismatch is checked again each time, since it may be mended."""
        if self._schema_checked:
            return
        with self._database.reading() as connection:
            schema.require(connection)
        self._schema_checked = True
