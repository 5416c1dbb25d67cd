"""The reaper: what happens to audits that nobody looks after. Any number of processes may run it at once."""

from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Select, select, update

from backdoor_audit.contract.lifecycle import Status
from jobs.audits import deadlines, lost_attempts
from jobs.audits.rows import Row
from jobs.audits.states import LIVE, Action
from jobs.clock import Instant
from jobs.database import counters
from jobs.database.due import is_due
from jobs.database.tables import audits as table
from jobs.policy import Policy

BATCH: Final = 100
"""Rows that one transaction takes."""


@dataclass
class Harvest:
    """What one pass did."""

    to_enqueue: list[str] = field(default_factory=list)
    """Queued audits that the caller is to enqueue."""
    lost: list[tuple[str, Status]] = field(default_factory=list)
    """Audits whose lease ran out, and the state they are in now."""
    looked_at: int = 0


def anything_due(connection: Connection, now: Instant) -> bool:
    """Return whether a pass would find something, without taking a lock."""
    return connection.execute(_due(now).order_by(table.c.due_tick).limit(1)).first() is not None


def reap(connection: Connection, now: Instant, policy: Policy) -> Harvest:
    """Take up to ``BATCH`` rows that are due: end or requeue those with a lost lease, hand out those that wait.

    Rows that another reaper (or a worker) has locked are left to it. A row that is handed out is due again only after
    ``requeue_after_s``, so that two reapers do not hand it out both. All passes of one round share their ``now``: no
    row comes up twice in a round.
    """
    query = _due(now).order_by(table.c.due_tick).limit(BATCH).with_for_update(skip_locked=True)
    harvest, moved = Harvest(), []
    for row in [found._asdict() for found in connection.execute(query)]:
        harvest.looked_at += 1
        if row["status"] in LIVE:
            # The caller enqueues it; it is due again only where that comes to nothing.
            due_s = policy.requeue_after_s
            after = lost_attempts.take_back(connection, row, now, policy, "the worker was lost", due_s=due_s)
            harvest.lost.append((row["id"], after["status"]))
        else:
            after = _hand_out(connection, row, now, policy)
        if after["status"] != row["status"]:
            moved.append(after["status"])
        if after["status"] == "queued":
            harvest.to_enqueue.append(row["id"])
    counters.count_transitions(connection, moved)
    if harvest.lost:
        counters.count_reaped(connection, len(harvest.lost))
    return harvest


def _due(now: Instant) -> Select[*tuple[Any, ...]]:
    return select(table).where(is_due(table, now))


def _hand_out(connection: Connection, row: Row, now: Instant, policy: Policy) -> Row:
    if deadlines.has_passed(row, now):
        return lost_attempts.end(connection, row, now, Action.EXPIRE, lost_attempts.OVERDUE, row["lost_attempts"])
    connection.execute(update(table).where(table.c.id == row["id"]).values(**now.due_in(policy.requeue_after_s)))
    return row
