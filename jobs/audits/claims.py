"""What a worker does with an audit: claim it, keep the lease, report progress, end it or give it back.

Every write here is fenced: it locks the row and compares the attempt number. A lease that has run out, but that no
reaper has acted on, still holds: the attempt number alone decides, so a worker that could not reach the database for
longer than its lease continues where nobody took over.
"""

from typing import Any, Final

from sqlalchemy import Connection, func, select, update

from backdoor_audit.contract.lifecycle import Failure, Stage
from backdoor_audit.contract.report.audit_report import AuditReport
from jobs import libraries
from jobs.audits import deadlines, lost_attempts, progress, queue, states
from jobs.audits import rows as audits
from jobs.audits.lost_attempts import OVERDUE
from jobs.audits.rows import Row
from jobs.audits.states import Action
from jobs.clock import Clock
from jobs.database import counters, documents
from jobs.database.documents import SpecCache
from jobs.database.tables import audits as table
from jobs.database.tables import turns
from jobs.database.upsert import upsert
from jobs.errors import AuditNotFound, DocumentUnreadable, LeaseLost, SpecTooNew
from jobs.policy import Policy
from jobs.records import Claim, Heartbeat

MAX_EVENTS: Final = 2_000
"""Events of one audit after which its progress adds none; three attempts that start over have half as many."""
_LOOK_AT: Final = 20
"""Queued audits of one owner that are looked at: the oldest may be of newer code, or being taken by another worker."""


def claim(
    connection: Connection, clock: Clock, policy: Policy, spec_cache: SpecCache, audit_id: str, worker: str
) -> Claim | None:
    """Take a queued audit; None if there is nothing to take.

    An audit whose deadline has passed while it waited for another attempt ends here, as ``deadline_exceeded``.

    Raises:
        SpecTooNew: newer code filed the audit; it stays queued.
    """
    try:
        row = audits.lock(connection, audit_id)
    except AuditNotFound:
        return None
    if states.after(row["status"], Action.CLAIM) is None:
        return None
    now = clock.read(connection)
    if deadlines.has_passed(row, now):
        audits.transition(connection, row, now, Action.EXPIRE, OVERDUE.message, failure=audits.failure_json(OVERDUE))
        return None
    documents.require_readable(connection, audit_id)
    spec = spec_cache.get(connection, [row])[audit_id]
    values: dict[str, Any] = {"attempt": row["attempt"] + 1, "worker": worker, **now.due_in(policy.lease_s)}
    if row["started_at"] is None:
        values |= {"started_at": now.at}
    if row["deadline_at"] is None:
        values |= deadlines.begin(deadlines.of(spec.deadline_s, policy.max_deadline_s), now)
    row = audits.transition(connection, row, now, Action.CLAIM, "", **values)
    return Claim(
        audit_id=audit_id,
        attempt=row["attempt"],
        spec=spec,
        deadline_at=row["deadline_at"],
        owner=row["owner"],
        worker=worker,
        seconds_left=deadlines.seconds_left(row, now),
        library=libraries.of_audit(connection, audit_id),
    )


def take_turn(
    connection: Connection, clock: Clock, policy: Policy, spec_cache: SpecCache, audit_id: str, worker: str
) -> Claim | None:
    """Take the queued audit whose owner's turn it is; None where nothing is queued, or others take it at this moment.

    A message of the broker is leave to take one audit, and says which only where every owner has had the same number of
    turns: the owner with the fewest running audits comes first, then the one whose last turn was longest ago, with the
    oldest audit.

    Raises:
        SpecTooNew, DocumentUnreadable: the message's own audit is of newer code, and there is no other to take.
    """
    skipped: SpecTooNew | DocumentUnreadable | None = None
    for queued in queue.in_turn(connection, per_owner=_LOOK_AT):
        try:
            claimed = claim(connection, clock, policy, spec_cache, queued, worker)
        except (SpecTooNew, DocumentUnreadable) as error:
            if queued == audit_id:
                skipped = error
            continue
        if claimed is not None:
            last = select(func.coalesce(func.max(turns.c.turn), 0) + 1).scalar_subquery()
            upsert(connection, turns, {"owner": claimed.owner, "turn": last}, {"turn": last})
            return claimed
    if skipped is not None:
        raise skipped
    return None


def heartbeat(connection: Connection, clock: Clock, policy: Policy, held: Claim) -> Heartbeat:
    """Extend the lease; this is no visible change, so the version stays.

    Raises:
        LeaseLost: the claim is no longer the live one.
    """
    row = _fenced(connection, held)
    now = clock.read(connection)
    connection.execute(update(table).where(table.c.id == held.audit_id).values(**now.due_in(policy.lease_s)))
    return Heartbeat(cancel_requested=row["status"] == "cancelling", seconds_left=deadlines.seconds_left(row, now))


def report_progress(
    connection: Connection, clock: Clock, held: Claim, stage: Stage, fraction: float, message: str
) -> bool:
    """Note how far the attempt is; a new stage, or a twentieth of one, becomes an event, up to a bound.

    Returns:
        Whether a cancel was asked for.

    Raises:
        LeaseLost: the claim is no longer the live one.
    """
    row = _fenced(connection, held)
    values: dict[str, Any] = {
        "stage": stage,
        "progress": progress.overall(stage, fraction, searches=held.spec.search is not None),
        "message": audits.printable(message),
    }
    tell = row["last_event"] < MAX_EVENTS and progress.worth_an_event(
        stage, fraction, last_stage=row["stage"], last_fraction=row["event_fraction"]
    )
    if tell:
        values |= {"event_fraction": progress.clamp(fraction)}
    if tell or any(row[name] != value for name, value in values.items()):
        audits.change(connection, row, clock.read(connection), event="progress" if tell else None, **values)
    return bool(row["status"] == "cancelling")


def succeed(connection: Connection, clock: Clock, held: Claim, report: AuditReport) -> Row:
    """End the audit with its report, both in this transaction; while it is ``cancelling`` the report is dropped.

    Raises:
        LeaseLost: the claim is no longer the live one.
    """
    row = _fenced(connection, held)
    now = clock.read(connection)
    if row["status"] == "cancelling":
        message = "cancelled; a report that was ready afterwards was dropped"
        return audits.transition(connection, row, now, Action.SUCCEED, message)
    documents.put_report(connection, held.audit_id, report)
    row = audits.transition(
        connection,
        row,
        now,
        Action.SUCCEED,
        "",
        verdict=report.verdict,
        progress=1.0,
        tuned_digest=report.provenance.tuned_digest,
    )
    counters.count_stages(connection, report.provenance.timings_s)
    return row


def fail(connection: Connection, clock: Clock, held: Claim, failure: Failure) -> Row:
    """End the audit with the reason; while it is ``cancelling`` it ends ``cancelled``.

    Raises:
        LeaseLost: the claim is no longer the live one.
    """
    row = _fenced(connection, held)
    now = clock.read(connection)
    message = "cancelled" if row["status"] == "cancelling" else failure.message
    return audits.transition(connection, row, now, Action.FAIL, message, failure=audits.failure_json(failure))


def stop(connection: Connection, clock: Clock, held: Claim) -> Row:
    """End the audit as cancelled.

    Raises:
        LeaseLost: the claim is no longer the live one.
    """
    row = _fenced(connection, held)
    return audits.transition(connection, row, clock.read(connection), Action.STOP, "cancelled")


def release(connection: Connection, clock: Clock, held: Claim) -> Row:
    """Put the audit back, due to be enqueued at once; the attempt does not count. While ``cancelling`` it is cancelled.

    Raises:
        LeaseLost: the claim is no longer the live one.
    """
    row = _fenced(connection, held)
    now = clock.read(connection)
    message = "given back by a worker that shuts down"
    return audits.transition(connection, row, now, Action.RELEASE, message, worker=None, **now.due_in(0))


def lose(connection: Connection, clock: Clock, policy: Policy, held: Claim, message: str) -> Row:
    """Count the attempt as lost without waiting for its lease: the worker lives and knows that the work is gone.

    The audit is due to be enqueued at once, where attempts are left.

    Raises:
        LeaseLost: the claim is no longer the live one.
    """
    row = _fenced(connection, held)
    row = lost_attempts.take_back(connection, row, clock.read(connection), policy, message, due_s=0)
    counters.count_transitions(connection, [row["status"]])
    return row


def _fenced(connection: Connection, held: Claim) -> Row:
    """Lock the row of the claim, and make sure that the claim is the live one."""
    try:
        row = audits.lock(connection, held.audit_id)
    except AuditNotFound:
        raise LeaseLost(held.audit_id, held.attempt) from None
    if row["status"] not in states.LIVE or row["attempt"] != held.attempt:
        raise LeaseLost(held.audit_id, held.attempt)
    return row
