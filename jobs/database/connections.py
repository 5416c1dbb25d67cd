"""Connections and transactions: the one place where SQLAlchemy's errors become the ledger's."""

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import structlog
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from common.database_address import parse_database_url
from jobs.errors import LedgerError, LedgerUnavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

_POOL_SIZE: Final = 10
_POOL_OVERFLOW: Final = 20
_POOL_TIMEOUT_S: Final = 10
_PAUSE_S: Final = 0.05
_SQLITE_BUSY_S: Final = 2.0
"""How long one wait inside SQLite may take; then the transaction is begun again."""
# Execution option: the statement that begins a transaction on SQLite, None for none.
_BEGIN: Final = "ledger_begin"
# Execution option: we asked PostgreSQL to refuse writes ourselves.
_READS_ONLY: Final = "postgresql_readonly"
# PostgreSQL's answers that mean "roll back and do the same again": serialization failure, deadlock.
_TRANSIENT_SQLSTATES: Final = frozenset({"40001", "40P01"})
# PostgreSQL's answers that mean "not on this connection": the server takes no writes, as a standby does; it shuts down,
# starts up or recovers; the connection, or a pooler's behind it, is broken.
_GONE_SQLSTATES: Final = ("25006", "57P", "08")
# The same on SQLite: the file could only be opened for reading, could not be opened, or its disk failed.
_GONE_SQLITE_CODES: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR})
# A process that is stopped inside a transaction must not keep its row locks: the server ends such a session.
_POSTGRESQL_OPTIONS: Final = (
    "-c lock_timeout=10s -c statement_timeout=30s -c idle_in_transaction_session_timeout=10s -c timezone=UTC"
)

_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


def _forget_connections() -> None:
    """After a fork the child must not speak on its parent's connections, nor close them."""
    for engine in _engines:
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_connections)


@contextmanager
def translate() -> Iterator[None]:
    """Turn SQLAlchemy's errors into the ledger's, the cause kept.

    Raises:
        LedgerUnavailable: the database cannot be reached, takes no writes, stays locked, or cut the connection.
        LedgerError: anything else that SQLAlchemy reports, a statement that does not fit the tables for example.
    """
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        if _is_wrong_statement(error):
            raise LedgerError(f"the database refused a statement: {_reason(error)}") from error
        raise LedgerUnavailable(f"the database is not available: {_reason(error)}") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise LedgerUnavailable(f"the database is not available: {_reason(error)}") from error
        raise LedgerError(f"the database refused a statement: {_reason(error)}") from error
    except SQLAlchemyError as error:
        raise LedgerError(f"the database layer failed: {type(error).__name__}") from error


def _reason(error: SQLAlchemyError) -> str:
    # Only the driver's class: messages of drivers may hold parameters, which may hold prompts.
    cause = error.orig if isinstance(error, DBAPIError) else None
    return type(cause or error).__name__


def _is_wrong_statement(error: SQLAlchemyError) -> bool:
    """Return whether SQLite means that the statement is wrong: an unknown table or column, a syntax error.

    It calls that operational too. PostgreSQL tells the two apart, and trying again helps with neither.
    """
    cause = error.orig if isinstance(error, DBAPIError) else None
    return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR


def _is_transient(error: DBAPIError) -> bool:
    """Return whether the same transaction may go through when it is tried again."""
    if isinstance(error.orig, sqlite3.OperationalError):
        return _sqlite_code(error.orig) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return getattr(error.orig, "sqlstate", None) in _TRANSIENT_SQLSTATES


def _sqlite_code(error: BaseException) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    # The low byte is the primary code; the rest says which kind of busy, of read-only, of failed disk.
    return None if code is None else code & 0xFF


def _drop_if_gone(context: ExceptionContext) -> None:
    """Have SQLAlchemy replace this connection, and those that are as old, where the database is elsewhere or down.

    Without this a pool that was filled while the address led to a read-only standby would keep those connections.
    """
    error = context.original_exception
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        reads_only = context.connection is not None and context.connection.get_execution_options().get(_READS_ONLY)
        if state.startswith(_GONE_SQLSTATES) and not (reads_only and state == "25006"):
            context.is_disconnect = True
    elif _sqlite_code(error) in _GONE_SQLITE_CODES:
        context.is_disconnect = True


def _forget_read_only(connection: Any, _record: object) -> None:
    """Leave it to the server whether a transaction may write: SQLAlchemy's reset would ask for READ WRITE."""
    if connection is not None:
        connection.read_only = None


class Transact(Protocol):
    """Runs a piece of work in one transaction."""

    def __call__(self, work: Callable[[Connection], T], /) -> T:
        """Run ``work`` and return what it returns."""


class Database:
    """An engine with two kinds of transactions: reading ones, and writing ones that are tried again on a collision."""

    def __init__(self, url: str, *, busy_s: float) -> None:
        """Open nothing yet.

        Args:
            url: ``sqlite:///path`` or ``postgresql://…`` (psycopg 3).
            busy_s: how long a write waits for a locked database before it gives up, seconds.

        Raises:
            ValueError: as ``parse_database_url``.
        """
        parsed = parse_database_url(url)
        self.is_sqlite: Final = parsed.get_backend_name() == "sqlite"
        self.file: Final = Path(parsed.database) if self.is_sqlite and parsed.database else None
        self._busy_s = busy_s
        self.engine: Final = create_engine(parsed, **self._engine_options(parsed))
        if self.is_sqlite:
            event.listen(self.engine, "connect", self._on_sqlite_connect)
            event.listen(self.engine, "begin", _on_sqlite_begin)
        else:
            event.listen(self.engine, "checkin", _forget_read_only)
        event.listen(self.engine, "handle_error", _drop_if_gone)
        _engines.add(self.engine)

    def _engine_options(self, url: URL) -> dict[str, Any]:
        options: dict[str, Any] = {
            "pool_size": _POOL_SIZE,
            "max_overflow": _POOL_OVERFLOW,
            "pool_timeout": _POOL_TIMEOUT_S,
            "hide_parameters": True,
        }
        if self.is_sqlite:
            return options
        arguments: dict[str, Any] = {"connect_timeout": 5}
        if "options" not in url.query:
            arguments["options"] = _POSTGRESQL_OPTIONS
        # The server may have been restarted since the connection was last used.
        return options | {"pool_pre_ping": True, "connect_args": arguments}

    def _on_sqlite_connect(self, connection: sqlite3.Connection, _record: object) -> None:
        # We begin transactions ourselves: the driver would begin them late, and never as IMMEDIATE.
        connection.isolation_level = None
        # The wait inside SQLite is a part of busy_s, so that the bound below is kept.
        connection.execute(f"PRAGMA busy_timeout = {int(min(self._busy_s, _SQLITE_BUSY_S) * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        # An accepted audit survives a power cut, too: with NORMAL the last commits of a WAL may be lost in one.
        connection.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that only reads."""
        # A snapshot, as SQLite gives one anyway: a row and its spec, or a sum and its parts, belong together.
        options = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ", _READS_ONLY: True}
        with translate(), self.engine.connect().execution_options(**options) as connection:
            yield connection

    def write(self, work: Callable[[Connection], T], *, busy_s: float | None = None) -> T:
        """Run ``work`` in one transaction and commit it; what it raises rolls it back.

        ``work`` may run several times: a lock that SQLite could not get, or a collision on PostgreSQL, starts it again
        until ``busy_s`` seconds have passed. Each time, nothing of the run before is left.

        Args:
            busy_s: in place of the database's own; 0 waits for a lock of SQLite once, for two seconds at most.

        Raises:
            LedgerUnavailable: the database cannot be reached, takes no writes, or stayed locked.
        """
        return self._until_it_goes_through(work, "BEGIN IMMEDIATE", self._busy_s if busy_s is None else busy_s)

    def switch_to_wal(self) -> None:
        """Let an SQLite file's readers and its writer not wait for each other; the file keeps this."""

        def work(connection: Connection) -> str:
            return str(connection.exec_driver_sql("PRAGMA journal_mode = WAL").scalar_one())

        mode = self._until_it_goes_through(work, None, self._busy_s)
        if mode != "wal":
            # Some file systems cannot share memory; everything works there too, but slower.
            log.warning("ledger.degraded", mode=mode)

    def _until_it_goes_through(self, work: Callable[[Connection], T], begin: str | None, busy_s: float) -> T:
        options: dict[str, Any] = {_BEGIN: begin}
        give_up_at = time.monotonic() + busy_s
        while True:
            try:
                with translate():
                    try:
                        with (
                            self.engine.connect().execution_options(**options) as connection,
                            connection.begin(),
                        ):
                            return work(connection)
                    except DBAPIError as error:
                        if not _is_transient(error) or time.monotonic() >= give_up_at:
                            raise
                        log.warning("ledger.blocked", reason=_reason(error))
            except LedgerUnavailable as error:
                log.warning("ledger.failed", reason=str(error))
                raise
            time.sleep(_PAUSE_S)

    def close(self) -> None:
        """Close all connections; a later use opens new ones."""
        self.engine.dispose()


def _on_sqlite_begin(connection: Connection) -> None:
    # A writer that begins with a read and upgrades later can fail without a wait; IMMEDIATE takes the lock first.
    begin = connection.get_execution_options().get(_BEGIN, "BEGIN")
    if begin is not None:
        connection.exec_driver_sql(begin)
