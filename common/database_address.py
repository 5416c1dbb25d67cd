"""The ledger's address: read here and nowhere else."""

from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

_FORMS: Final = "sqlite:///file or postgresql://user@host/database"


def parse_database_url(text: str) -> URL:
    """Read ``sqlite:///file`` or ``postgresql://…``; the latter's driver becomes psycopg 3, its options are libpq's.

    Raises:
        ValueError: it is neither, names no file, or has an option that the driver does not know. Values are not
            repeated.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # The text may hold a password; neither it nor the cause is repeated.
        raise ValueError(f"the ledger's URL is not one; write {_FORMS}, other characters percent-encoded") from None
    backend = url.get_backend_name()
    if backend == "sqlite":
        return _sqlite(url)
    if backend in ("postgresql", "postgres"):
        return _postgresql(url)
    raise ValueError(f"the ledger's URL must be {_FORMS}")


def _sqlite(url: URL) -> URL:
    if url.database in (None, "", ":memory:"):
        raise ValueError("the ledger needs an SQLite file: several processes share it")
    if url.query or url.host or str(url.database).startswith("file:"):
        raise ValueError("the ledger's SQLite file is a path alone, without options: sqlite:////folder/file")
    return url.set(drivername="sqlite")


def _postgresql(url: URL) -> URL:
    url = url.set(drivername="postgresql+psycopg")
    try:
        _, options = url.get_dialect()().create_connect_args(url)
        make_conninfo(**options)
    except (psycopg.Error, ArgumentError):
        names = ", ".join(sorted(url.query)) or "none"
        raise ValueError(f"PostgreSQL's client does not know an option of the ledger's URL, of: {names}") from None
    return url
