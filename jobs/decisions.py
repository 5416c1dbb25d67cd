"""Decisions about audits: added, and never changed or removed but with their audit."""

from collections.abc import Collection, Mapping
from typing import Any, Final

import structlog
from sqlalchemy import Connection, func, insert, select

from backdoor_audit.contract.decisions import Choice
from jobs.audits import rows as audits
from jobs.clock import Clock
from jobs.database.connections import Transact
from jobs.database.tables import decisions
from jobs.errors import NoReport, ReportNotReady, TooManyDecisions
from jobs.ids import new_id
from jobs.records import Decision

log = structlog.get_logger(__name__)

MAX_DECISIONS: Final = 200
"""Decisions about one audit."""


class Decisions:
    """The decisions of a ledger. Every method is one transaction, and may raise what the ledger raises."""

    def __init__(self, read: Transact, write: Transact, clock: Clock) -> None:
        self._read = read
        self._write = write
        self._clock = clock

    def add(
        self, audit_id: str, *, owner: str, choice: Choice, decided_by: str, because: str, key_id: str | None
    ) -> Decision:
        """Add a decision about an audit that has a report; it holds from now on, and the audit's version rises.

        Args:
            audit_id: which audit.
            owner: whose it must be.
            choice: what was decided.
            decided_by: who, as they say.
            because: why.
            key_id: the API key that the decision came with; None without one.

        Raises:
            AuditNotFound: the owner has no such audit.
            ReportNotReady: it has not ended.
            NoReport: it ended without a verdict.
            TooManyDecisions: it has as many as one may have.
        """

        def work(connection: Connection) -> Decision:
            row = audits.lock(connection, audit_id, owner=owner)
            if row["status"] != "succeeded":
                raise (NoReport if row["finished_at"] is not None else ReportNotReady)(audit_id, row["status"])
            count = select(func.count()).select_from(decisions).where(decisions.c.audit_id == audit_id)
            if connection.execute(count).scalar_one() >= MAX_DECISIONS:
                raise TooManyDecisions("the audit has the maximum number of decisions")
            now = self._clock.read(connection)
            values: dict[str, Any] = {
                "audit_id": audit_id,
                "number": connection.execute(count).scalar_one() + 1,
                "id": new_id("decision_"),
                "choice": choice,
                "decided_by": decided_by,
                "because": because,
                "key_id": key_id,
                "created_at": now.at,
            }
            connection.execute(insert(decisions).values(**values))
            audits.change(connection, row, now, event=None)
            return _decision(values)

        made = self._write(work)
        log.info("decision.added", audit_id=audit_id, choice=choice)
        return made

    def list(self, audit_id: str, *, owner: str) -> tuple[Decision, ...]:
        """Return all decisions about an audit, the first one first.

        Raises:
            AuditNotFound: the owner has no such audit.
        """

        def work(connection: Connection) -> tuple[Decision, ...]:
            audits.find(connection, audit_id, owner=owner)
            query = select(decisions).where(decisions.c.audit_id == audit_id).order_by(decisions.c.number)
            return tuple(_decision(row._asdict()) for row in connection.execute(query))

        return self._read(work)


def latest(connection: Connection, ids: Collection[str]) -> dict[str, Decision]:
    """Return the decision that holds for each of ``ids`` that has one."""
    if not ids:
        return {}
    query = select(decisions).where(decisions.c.audit_id.in_(ids)).order_by(decisions.c.audit_id, decisions.c.number)
    return {row.audit_id: _decision(row._asdict()) for row in connection.execute(query)}


def _decision(row: Mapping[str, Any]) -> Decision:
    return Decision(**{name: value for name, value in row.items() if name != "number"})
