"""Counters for the metrics. They never fall: they outlive the audits that they counted.

Each is a row of its own. A transaction that raises several takes them in one order (``transitions`` sorted, then the
rest), so that two transactions never wait for each other.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, get_args

from sqlalchemy import Connection, insert, select

from backdoor_audit.contract.lifecycle import STAGES, Status
from jobs.database.tables import counters
from jobs.database.upsert import upsert

_REAPED: Final = "reaped"
_TO: Final = "to."
_SECONDS: Final = "seconds."


@dataclass(frozen=True)
class Totals:
    """All counters; what was never counted is absent from the mappings."""

    reaped: int
    """Leases that ran out."""
    transitions: dict[str, int]
    """How often audits entered each state."""
    stage_seconds: dict[str, int]
    """Seconds that succeeded audits spent in each stage."""


def count_transitions(connection: Connection, statuses: Iterable[str]) -> None:
    """Count audits that entered these states."""
    for status, number in sorted(Counter(statuses).items()):
        _add(connection, f"{_TO}{status}", number)


def count_stages(connection: Connection, seconds: Mapping[str, float]) -> None:
    """Add what the stages of a finished audit took, whole seconds."""
    for stage in sorted(set(seconds) & set(STAGES)):
        _add(connection, f"{_SECONDS}{stage}", round(seconds[stage]))


def count_reaped(connection: Connection, number: int) -> None:
    """Count leases that ran out."""
    _add(connection, _REAPED, number)


def read(connection: Connection) -> Totals:
    """Return all counters."""
    names = [f"{_TO}{status}" for status in get_args(Status)] + [f"{_SECONDS}{stage}" for stage in STAGES]
    rows = connection.execute(select(counters).where(counters.c.name.in_([*names, _REAPED])))
    values: dict[str, int] = {row.name: row.value for row in rows}
    return Totals(
        reaped=values.get(_REAPED, 0), transitions=_under(values, _TO), stage_seconds=_under(values, _SECONDS)
    )


def try_out(connection: Connection) -> None:
    """Write a counter and take it back: the database commits a transaction that leaves nothing behind."""
    with connection.begin_nested() as savepoint:
        connection.execute(insert(counters).values(name=f"try.{uuid.uuid4().hex[:16]}", value=0))
        savepoint.rollback()


def _under(values: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): value for name, value in sorted(values.items()) if name.startswith(prefix)}


def _add(connection: Connection, name: str, amount: int) -> None:
    upsert(connection, counters, {"name": name, "value": amount}, {"value": counters.c.value + amount})
