"""INSERT … ON CONFLICT, which SQLAlchemy spells once for each database."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_if_absent(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row; return False if a row with the same unique key exists.

    On PostgreSQL this waits for a transaction that is about to commit the same key.
    """
    statement = _insert(connection, table).values(**row).on_conflict_do_nothing().returning(*table.primary_key.columns)
    return connection.execute(statement).one_or_none() is not None


def upsert(connection: Connection, table: Table, row: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Insert a row, or apply ``changes`` to the row that has its primary key.

    Values of ``changes`` may be expressions over the columns of ``table``: those hold what was stored before.
    """
    statement = _insert(connection, table).values(**row)
    keys = list(table.primary_key.columns)
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=dict(changes)))


def _insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
