"""Attempts that were lost: the audit goes back to the queue, or ends if there is nothing left to try.

The callers count the transitions (``jobs.database.counters``): the reaper makes many in one transaction.
"""

from typing import Final

from sqlalchemy import Connection

from backdoor_audit.contract.lifecycle import Failure
from jobs.audits import deadlines
from jobs.audits import rows as audits
from jobs.audits.rows import Row
from jobs.audits.states import Action
from jobs.clock import Instant
from jobs.policy import Policy

OVERDUE: Final = Failure(
    code="deadline_exceeded",
    message="the deadline passed before a worker could finish the audit",
    hint="raise deadline_s, or choose a smaller preset",
)


def take_back(connection: Connection, row: Row, now: Instant, policy: Policy, message: str, *, due_s: float) -> Row:
    """Count one more lost attempt of a locked, live row; return the row as it is then.

    Args:
        connection: inside a writing transaction.
        row: the audit, locked, in a state that holds a lease.
        now: the ledger's time.
        policy: how many attempts there are.
        message: what the history says where the audit goes back to the queue.
        due_s: after how many seconds the reaper hands it out.
    """
    lost = row["lost_attempts"] + 1
    if deadlines.has_passed(row, now):
        return end(connection, row, now, Action.EXPIRE, OVERDUE, lost)
    if lost >= policy.max_attempts:
        failure = Failure(
            code="worker_lost",
            message=f"the worker was lost {lost} times",
            hint="look at the worker's log and its memory limit; a smaller preset or fewer layers need less",
        )
        return end(connection, row, now, Action.EXHAUST, failure, lost)
    due = now.due_in(due_s)
    return audits.transition(
        connection, row, now, Action.LOSE, message, count=False, lost_attempts=lost, worker=None, **due
    )


def end(connection: Connection, row: Row, now: Instant, action: Action, failure: Failure, lost: int) -> Row:
    """End a locked row for ``failure``, with ``lost`` attempts on its account; return the row as it is then."""
    stored = audits.failure_json(failure)
    return audits.transition(
        connection, row, now, action, failure.message, count=False, failure=stored, lost_attempts=lost
    )
