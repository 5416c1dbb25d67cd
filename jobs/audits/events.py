"""The history of an audit."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from jobs.clock import Instant
from jobs.database.tables import events
from jobs.records import Event, EventKind


def append(connection: Connection, row: Mapping[str, Any], now: Instant, kind: EventKind) -> None:
    """Write the present state of ``row`` as event number ``row["last_event"]``; the caller holds the row's lock."""
    connection.execute(
        insert(events).values(
            audit_id=row["id"],
            sequence=row["last_event"],
            kind=kind,
            at=now.at,
            attempt=row["attempt"],
            status=row["status"],
            stage=row["stage"],
            progress=row["progress"],
            message=row["message"],
        )
    )


def read(connection: Connection, audit_id: str, *, after: int, limit: int) -> list[Event]:
    """Return up to ``limit`` events with a sequence above ``after``, oldest first."""
    query = (
        select(events)
        .where(events.c.audit_id == audit_id, events.c.sequence > after)
        .order_by(events.c.sequence)
        .limit(limit)
    )
    return [Event(**row) for row in connection.execute(query).mappings()]
