"""The schema's version: bringing a database up to date, and telling whether it is."""

import fcntl
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, text

from jobs.database.connections import Database
from jobs.errors import LedgerError, SchemaMismatch

log = structlog.get_logger(__name__)

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
# Any number does, as long as nobody else takes the same one in this database.
_ADVISORY_LOCK: Final = 0x6261636B646F6F72
# Alembic keeps the running migration in module globals.
_one_at_a_time: Final = threading.Lock()


def _configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@functools.cache
def newest_revision() -> str:
    """Return the revision that this code was written for."""
    revision = ScriptDirectory.from_config(_configuration()).get_current_head()
    if revision is None:
        raise LedgerError("the package holds no migrations")
    return revision


def revision_of(connection: Connection) -> str | None:
    """Return the revision of the database, None if it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def require(connection: Connection) -> None:
    """Refuse a database of another version.

    Raises:
        SchemaMismatch: it is older or newer than this code, or empty.
    """
    found, wanted = revision_of(connection), newest_revision()
    if found != wanted:
        raise SchemaMismatch(
            f"the database's schema is at revision {found or 'none'}, this code needs {wanted}: "
            "migrate the database, or run the version of the code that matches it"
        )


def migrate(database: Database) -> None:
    """Bring the schema to the newest revision in one transaction; several processes may call this at once.

    Raises:
        SchemaMismatch: the database is at a revision that this code does not know, so it is of newer code.
        LedgerUnavailable: the database cannot be reached or stays locked.
    """
    with _one_at_a_time, _file_lock(database.file):
        if database.is_sqlite:
            database.switch_to_wal()
        database.write(_upgrade)


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Waiting for a neighbour's migration may take longer than a usual statement.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    before = revision_of(connection)
    config = _configuration()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SchemaMismatch(f"the database is at revision {before}, which this code does not know") from error
    after = revision_of(connection)
    if after != before:
        log.info("ledger.migrated", before=before, after=after)


@contextmanager
def _file_lock(file: Path | None) -> Iterator[None]:
    """Let one process at a time prepare an SQLite file.

    The switch to WAL needs the file for itself and does not wait for it, so SQLite's own locks are not enough.
    """
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(file.name + ".migrate-lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
