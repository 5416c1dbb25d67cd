"""Batches over HTTP."""

from datetime import datetime
from typing import Self

from pydantic import Field

from backdoor_audit.contract.lifecycle import Status
from backdoor_audit.contract.report.verdicts import Verdict
from service.audits.schemas import FailureOut
from service.batches.service import Batch, BatchRow
from service.decisions.schemas import DecisionOut
from service.http.public_url import link
from service.http.schemas import Out


class PairOut(Out):
    """A suspected pair."""

    triggered: str
    clean: str


class BatchAuditOut(Out):
    """One audit of a batch."""

    id: str
    status: Status
    progress: float = Field(ge=0, le=1)
    verdict: Verdict | None
    fails: bool = Field(description="Whether the verdict meets the spec's `fail_on`.")
    decision: DecisionOut | None
    failure: FailureOut | None
    base_model: str
    fine_tuned: str
    pairs: tuple[PairOut, ...] = Field(description="The pairs, as far as they are not too long for a list.")
    more_pairs: int = Field(ge=0, description="Number of further pairs.")
    summary: str = Field(description="The report's summary for the first verdicts that need a look; otherwise empty.")
    created_at: datetime
    finished_at: datetime | None
    links: dict[str, str]

    @classmethod
    def of(cls, row: BatchRow) -> Self:
        """The outward form of ``row``."""
        here = link(f"/audits/{row.id}")
        failure = row.failure
        return cls(
            id=row.id,
            status=row.status,
            progress=row.progress,
            verdict=row.verdict,
            fails=row.fails,
            decision=row.decision and DecisionOut.of(row.decision),
            failure=failure and FailureOut(code=failure.code, message=failure.message, hint=failure.hint),
            base_model=row.base_model,
            fine_tuned=row.fine_tuned,
            pairs=tuple(PairOut(triggered=triggered, clean=clean) for triggered, clean in row.pairs),
            more_pairs=row.more_pairs,
            summary=row.summary,
            created_at=row.created_at,
            finished_at=row.finished_at,
            links={"self": here, "report": f"{here}/report"},
        )


class BatchOut(Out):
    """A batch, its worst audit first."""

    id: str
    ended: bool = Field(description="Whether all of its audits have ended.")
    results: dict[str, int] = Field(description="How many audits have each verdict, or state if they have none.")
    audits: tuple[BatchAuditOut, ...]
    links: dict[str, str]

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """The outward form of ``batch``."""
        here = link(f"/batches/{batch.id}")
        return cls(
            id=batch.id,
            ended=batch.ended,
            results=batch.results,
            audits=tuple(map(BatchAuditOut.of, batch.rows)),
            links={"self": here, "report": f"{here}/report", "cancel": f"{here}/cancel"},
        )
