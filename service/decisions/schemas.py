"""Decisions over HTTP: what comes in and what goes out."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from backdoor_audit.contract.decisions import Because, Choice, Person
from jobs.records import Decision
from service.http.schemas import Out


class DecisionSpec(BaseModel):
    """A decision about an audit's result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Choice = Field(description="`accepted` lets the model be used, whatever the verdict.")
    decided_by: Person = Field(description="Who decided, as they want to be named.")
    because: Because = Field(description="Why.")


class DecisionOut(Out):
    """A decision about an audit's result. It never changes; a later one takes its place."""

    id: str
    decision: Choice
    decided_by: str
    because: str
    key_id: str | None = Field(description="The API key that the decision came with; null without one.")
    created_at: datetime

    @classmethod
    def of(cls, record: Decision) -> Self:
        """The outward form of ``record``."""
        return cls(
            id=record.id,
            decision=record.choice,
            decided_by=record.decided_by,
            because=record.because,
            key_id=record.key_id,
            created_at=record.created_at,
        )


class DecisionListing(Out):
    """All decisions about an audit; the last one holds."""

    decisions: tuple[DecisionOut, ...]
