"""Counters that never fall, for the metrics: they outlive the audits that they counted.

Each lives in a row of its own. A transaction that counts several takes them in one order (``transitions`` sorted, then
the rest), so that two never wait for each other.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, get_args

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from backdoor_audit.contract.spec import STAGES, Status
from jobs.database.tables import counters

REAPED: Final = "reaped"
_TO: Final = "to."
_SECONDS: Final = "seconds."


def count_transitions(connection: Connection, statuses: Iterable[str]) -> None:
    """Note that audits came into these states."""
    for status, number in sorted(Counter(statuses).items()):
        _add(connection, f"{_TO}{status}", number)


def count_stages(connection: Connection, seconds: Mapping[str, float]) -> None:
    """Add what the stages of a finished audit took, whole seconds."""
    for stage in sorted(set(seconds) & set(STAGES)):
        _add(connection, f"{_SECONDS}{stage}", round(seconds[stage]))


def count_reaped(connection: Connection, number: int) -> None:
    """Note that leases ran out."""
    _add(connection, REAPED, number)


def read(connection: Connection) -> tuple[dict[str, int], dict[str, int]]:
    """Return transitions by state and seconds by stage; what was never counted is not there."""
    names = [f"{_TO}{status}" for status in get_args(Status)] + [f"{_SECONDS}{stage}" for stage in STAGES]
    rows = connection.execute(select(counters).where(counters.c.name.in_(names)))
    found: dict[str, int] = {row.name: row.value for row in rows}
    return _under(found, _TO), _under(found, _SECONDS)


def _under(found: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): value for name, value in sorted(found.items()) if name.startswith(prefix)}


def _add(connection: Connection, name: str, amount: int) -> None:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    row = insert(counters).values(name=name, value=amount)
    raised = {"value": counters.c.value + row.excluded.value}
    connection.execute(row.on_conflict_do_update(index_elements=[counters.c.name], set_=raised))
