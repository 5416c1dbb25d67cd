"""Rows of audits: reading them, locking them, and the only ways to change them."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, Select, select, update

from backdoor_audit.contract.lifecycle import TERMINAL, Failure, Status
from backdoor_audit.contract.report.verdicts import Verdict
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from backdoor_audit.contract.text.foreign_text import visible_lines
from jobs import version_tags
from jobs.audits import events, states
from jobs.audits.states import Action
from jobs.clock import Instant
from jobs.database import counters
from jobs.database.due import NOT_DUE
from jobs.database.tables import audits
from jobs.errors import AuditNotFound, LedgerUnavailable
from jobs.ids import is_audit_id
from jobs.records import AuditRecord, Decision, EventKind
from jobs.webhooks import outbox

Row = Mapping[str, Any]

_MAX_MESSAGE: Final = 2_000


def find(connection: Connection, audit_id: str, *, owner: str | None) -> Row:
    """Return an audit's row.

    Raises:
        AuditNotFound: there is none, or it is another owner's.
    """
    return _one(connection, select(audits), audit_id, owner)


def lock(connection: Connection, audit_id: str, *, owner: str | None = None) -> Row:
    """Return an audit's row and keep everybody else from changing it until the transaction ends.

    SQLite needs no row lock: its writing transactions exclude each other.

    Raises:
        AuditNotFound: there is none, or it is another owner's.
    """
    return _one(connection, select(audits).with_for_update(), audit_id, owner)


def _one(connection: Connection, query: Select[*tuple[Any, ...]], audit_id: str, owner: str | None) -> Row:
    if not is_audit_id(audit_id):
        raise AuditNotFound(audit_id)
    query = query.where(audits.c.id == audit_id)
    if owner is not None:
        query = query.where(audits.c.owner == owner)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise AuditNotFound(audit_id)
    return row._asdict()


def change(connection: Connection, row: Row, now: Instant, *, event: EventKind | None, **values: Any) -> Row:
    """Write ``values`` to a locked row, raise its version, add an event where one is named.

    Returns:
        The row as it is then.
    """
    values |= {"version": row["version"] + 1}
    if event is not None:
        values |= {"last_event": row["last_event"] + 1}
    written = connection.execute(
        update(audits).where(audits.c.id == row["id"], audits.c.version == row["version"]).values(**values)
    )
    if written.rowcount != 1:
        # Cannot happen while every writer locks first; if one did not, its write must not be overwritten.
        raise LedgerUnavailable(f"audit {row['id']} changed while it was locked")
    changed = {**row, **values}
    if event is not None:
        events.append(connection, changed, now, event)
    return changed


def transition(
    connection: Connection, row: Row, now: Instant, action: Action, message: str, *, count: bool = True, **values: Any
) -> Row:
    """Move a locked row along the table of transitions, with an event; return the row as it is then.

    ``values`` go with it; verdict and failure are dropped where the transition leads to a state that has none. A
    transaction that makes several transitions counts them itself, at its end (``jobs.database.counters``).

    Raises:
        ValueError: the action changes nothing here; the caller looks first (``states.after``).
    """
    target = states.after(row["status"], action)
    if target is None:
        raise ValueError(f"{action} does nothing to an audit that is {row['status']}")
    if target in TERMINAL:
        values |= {**NOT_DUE, "finished_at": now.at}
    if target == "queued":
        values |= {"queued_at": now.at}
    for state, column in (("succeeded", "verdict"), ("failed", "failure")):
        if target != state:
            values.pop(column, None)
    changed = change(connection, row, now, event="status", status=target, message=printable(message), **values)
    if count:
        counters.count_transitions(connection, [target])
    if target in TERMINAL:
        outbox.announce(connection, changed, now)
        version_tags.note_end(connection, changed, now)
    return changed


def failure_json(failure: Failure) -> str:
    """Return a failure as it is stored, its texts fit for every database."""
    return Failure(
        code=failure.code, message=printable(failure.message), hint=printable(failure.hint)
    ).model_dump_json()


def printable(text: str) -> str:
    """Make a message storable: no lone surrogates, no control characters, no commands of runners, and no novel.

    Messages can quote a checkpoint, and are read on terminals and in pipelines' logs.
    """
    text = text.replace("\0", "")[:_MAX_MESSAGE].encode(errors="replace").decode()
    return visible_lines(text)[:_MAX_MESSAGE]


def record(
    row: Row, spec: AuditSpec, queue_position: int | None = None, decision: Decision | None = None
) -> AuditRecord:
    """Return the public form of a row."""
    status: Status = row["status"]
    verdict: Verdict | None = row["verdict"]
    return AuditRecord(
        id=row["id"],
        owner=row["owner"],
        status=status,
        stage=row["stage"],
        progress=row["progress"],
        message=row["message"],
        attempt=row["attempt"],
        spec=spec,
        verdict=verdict,
        failure=None if row["failure"] is None else Failure.model_validate_json(row["failure"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        version=row["version"],
        queue_position=queue_position,
        decision=decision,
    )
