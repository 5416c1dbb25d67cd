"""Listings: pages along the primary key, and the counts for the metrics."""

from collections.abc import Collection, Iterable, Iterator
from itertools import accumulate, islice
from typing import Final, get_args

from sqlalchemy import ColumnElement, Connection, func, select

from backdoor_audit.contract.lifecycle import TERMINAL, Status
from jobs.audits import queue
from jobs.audits.rows import Row
from jobs.clock import Clock
from jobs.database import counters, page_tokens
from jobs.database.tables import BATCH_LABEL, audit_labels, audits, specs
from jobs.ids import is_audit_id
from jobs.records import AuditFilters, QueueCounts

_IDS_A_QUERY: Final = 500
_MAX_PAGE_CHARS: Final = 4 * 2**20
"""How much text the specs of one page may hold: an owner chooses how long each is."""


def page(
    connection: Connection, filters: AuditFilters, *, owner: str | None, page_size: int, page_token: str | None
) -> tuple[list[Row], str | None]:
    """Return one page of rows, newest first, and the token of the next.

    ``page_size`` is brought into 1–200; a page with long specs has fewer audits, and at least one. A page begins after
    the last id of the page before, so audits that come or go in between neither repeat nor hide others.

    Raises:
        InvalidPageToken: the token is not one of ours, or was made for other filters.
    """
    size = min(max(page_size, 1), page_tokens.MAX_PAGE_SIZE)
    given = {name: value for name, value in filters.items() if value}
    mark = page_tokens.mark(owner, *(f"{name}={given[name]!r}" for name in sorted(given)))
    query = select(audits, specs.c.chars).join(specs, specs.c.audit_id == audits.c.id).where(*_conditions(filters))
    if owner is not None:
        query = query.where(audits.c.owner == owner)
    if page_token is not None:
        query = query.where(audits.c.id < page_tokens.last_id(page_token, mark, is_audit_id))
    query = query.order_by(audits.c.id.desc()).limit(size + 1)
    rows: list[Row] = [row._asdict() for row in connection.execute(query)]
    size = max(1, min(size, sum(read <= _MAX_PAGE_CHARS for read in accumulate(row["chars"] for row in rows))))
    more = len(rows) > size
    return rows[:size], page_tokens.token(rows[size - 1]["id"], mark) if more else None


def _conditions(filters: AuditFilters) -> Iterator[ColumnElement[bool]]:
    for name in ("status", "verdict", "base_model", "fine_tuned", "tuned_digest", "spec_digest"):
        value = filters.get(name)
        if value is not None:
            yield audits.c[name] == value
    batch = filters.get("batch")
    for label, wanted in (*filters.get("labels", ()), *(() if batch is None else ((BATCH_LABEL, batch),))):
        found = select(audit_labels.c.audit_id).where(audit_labels.c.name == label)
        yield audits.c.id.in_(found if wanted is None else found.where(audit_labels.c.value == wanted))
    since, before, prefix = (filters.get(name) for name in ("filed_since", "filed_before", "id_prefix"))
    if since is not None:
        yield audits.c.created_at >= since
    if before is not None:
        yield audits.c.created_at < before
    if prefix is not None:
        # A range, which the primary key's index answers: ids are compared byte by byte.
        yield audits.c.id >= prefix
        yield audits.c.id < f"{prefix}~"


def queue_positions(connection: Connection, ids: Collection[str]) -> dict[str, int]:
    """Return the place of each of ``ids`` that is queued, from 1, among the queued audits of all owners."""
    if not ids:
        return {}
    return {audit_id: place for place, audit_id in enumerate(queue.in_turn(connection), start=1) if audit_id in ids}


def count_batch(connection: Connection, owner: str, batch: str) -> int:
    """Return how many audits of a batch an owner has."""
    members = select(audit_labels.c.audit_id).where(audit_labels.c.name == BATCH_LABEL, audit_labels.c.value == batch)
    query = select(func.count()).select_from(audits).where(audits.c.owner == owner, audits.c.id.in_(members))
    return int(connection.execute(query).scalar_one())


def open_audits(connection: Connection) -> list[Row]:
    """Return the rows of all audits that have not ended."""
    query = select(audits).where(audits.c.status.not_in(TERMINAL))
    return [row._asdict() for row in connection.execute(query)]


def counts(connection: Connection, clock: Clock) -> QueueCounts:
    """Count the audits in each state, and say how long the queue's oldest has waited."""
    by_status: dict[Status, int] = dict.fromkeys(get_args(Status), 0)
    for status, count in connection.execute(select(audits.c.status, func.count()).group_by(audits.c.status)):
        by_status[status] = count
    oldest = connection.execute(select(func.min(audits.c.queued_at)).where(audits.c.status == "queued")).scalar_one()
    waited = 0.0 if oldest is None else (clock.read(connection).at - oldest).total_seconds()
    totals = counters.read(connection)
    return QueueCounts(
        by_status=by_status,
        oldest_queued_s=max(waited, 0.0),
        reaped_total=totals.reaped,
        transitions=totals.transitions,
        stage_seconds=totals.stage_seconds,
    )


def without_report(connection: Connection, ids: Iterable[str]) -> list[str]:
    """Return those of ``ids`` that ended failed or cancelled."""
    found: list[str] = []
    for chunk in _batched(ids, _IDS_A_QUERY):
        query = select(audits.c.id).where(audits.c.id.in_(chunk), audits.c.status.in_(("failed", "cancelled")))
        found += connection.execute(query).scalars()
    return found


def still_open(connection: Connection, ids: Iterable[str]) -> list[str]:
    """Return those of ``ids`` that are there and have not ended."""
    found: list[str] = []
    for chunk in _batched(ids, _IDS_A_QUERY):
        query = select(audits.c.id).where(audits.c.id.in_(chunk), audits.c.status.not_in(TERMINAL))
        found += connection.execute(query).scalars()
    return found


def _batched(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    """Cut ``ids`` into lists of at most ``size``: databases bound the parameters of one statement."""
    rest = iter(ids)
    while chunk := list(islice(rest, size)):
        yield chunk
