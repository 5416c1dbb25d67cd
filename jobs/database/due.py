"""Rows that somebody must act on from an instant on: audits, deliveries, version tags.

Their columns ``due_tick`` and ``due_epoch`` are written with ``Instant.due_in``.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, and_, or_

from jobs.clock import Instant

NOT_DUE: Final[Mapping[str, Any]] = {"due_tick": None, "due_epoch": None}
"""The columns of a row that nobody waits for."""


def is_due(table: Table, now: Instant) -> ColumnElement[bool]:
    """Return the condition that a row is due; one of another epoch is, since its clock is gone."""
    passed = or_(table.c.due_tick <= now.tick, table.c.due_epoch != now.epoch)
    return and_(table.c.due_tick.is_not(None), passed)
