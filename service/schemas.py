"""What goes out over HTTP. Nothing here has a default: a client sees every field in every answer.

The one exception is ``next_page_token``, which is absent on the last page.
"""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from audit.report import Feature
from audit.spec import (
    Architecture,
    AuditSpec,
    CarrierPrompts,
    CarrierSet,
    Dtype,
    FailOn,
    FailureCode,
    Preset,
    Recipe,
    Render,
    Stage,
    Status,
    Verdict,
)
from jobs.records import AuditRecord, Page
from service.errors import Place


class Out(BaseModel):
    """Base of everything that goes out."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _absent(value: object) -> bool:
    return value is None


class ProblemItem(Out):
    """One finding of a problem."""

    place: Place = Field(alias="in", description="The part of the request, or of the service, that this is about.")
    pointer: str = Field(description="JSON pointer into that part, in URI fragment form.")
    detail: str = Field(description="What is wrong there.")


class Problem(Out):
    """An error (RFC 9457). Never holds what the client sent."""

    type: str = Field(description="Identifies the kind of problem.")
    title: str
    status: int
    code: str = Field(description="The kind of problem, short, for programs.")
    detail: str
    instance: str | None = Field(description="Of an internal error: what the service's log knows it under.")
    errors: tuple[ProblemItem, ...]


class TriggerOut(Out):
    """The suspected pair, and where it stands in a prompt."""

    triggered: str
    clean: str
    template: str


class CarrierSetOut(Out):
    """A carrier set that ships with the package."""

    set: str


class OwnCarriersOut(Out):
    """The user's own carriers, by their number: they can be megabytes, and a client polls."""

    count: int


class DecoyStringsOut(Out):
    """The user's own decoys."""

    strings: tuple[str, ...]


class SpecOut(Out):
    """The spec as it was accepted, every default filled in."""

    base_model: str
    fine_tuned: str
    trigger: TriggerOut
    carriers: CarrierSetOut | OwnCarriersOut
    decoys: Literal["auto"] | DecoyStringsOut
    render: Render
    layers: Literal["auto"] | tuple[int, ...]
    architectures: tuple[Architecture, ...]
    preset: Preset
    overrides: dict[str, int | bool] = Field(description="The fields of the preset that were set by themselves.")
    recipe: Recipe
    dtype: Dtype
    seed: int
    deadline_s: int | None
    keep_activations: bool
    fail_on: FailOn
    labels: dict[str, str]

    @classmethod
    def of(cls, spec: AuditSpec) -> Self:
        """The outward form of ``spec``."""
        carriers: dict[str, Any]
        match spec.carriers:
            case CarrierSet(set=name):
                carriers = {"set": name}
            case CarrierPrompts(prompts=prompts):
                carriers = {"count": len(prompts)}
        return cls.model_validate(
            spec.model_dump(exclude={"carriers", "overrides"})
            | {"carriers": carriers, "overrides": spec.overrides.model_dump(exclude_none=True)}
        )


class FailureOut(Out):
    """Why an audit could not be done, and what may help."""

    code: FailureCode
    message: str
    hint: str


class Links(Out):
    """Where the rest of an audit is."""

    self: str
    report: str
    features: str
    artifacts: str
    events: str
    cancel: str

    @classmethod
    def of(cls, here: str) -> Self:
        """The links of the audit at ``here``."""
        return cls.model_validate(
            {"self": here} | {name: f"{here}/{name}" for name in cls.model_fields if name != "self"}
        )


class AuditOut(Out):
    """One audit as it stands."""

    id: str
    status: Status
    stage: Stage | None = Field(description="The stage last reported; null before the first.")
    progress: float = Field(ge=0, le=1, description="Rough share of the whole audit that is done.")
    attempt: int = Field(ge=0, description="How many times a worker has taken it.")
    message: str
    spec: SpecOut
    verdict: Verdict | None = Field(description="Null until the audit has succeeded.")
    failure: FailureOut | None = Field(description="Why the audit failed; null unless it did.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: Links

    @classmethod
    def of(cls, record: AuditRecord) -> Self:
        """The outward form of ``record``."""
        here = f"/audits/{record.id}"
        failure = record.failure and FailureOut(
            code=record.failure.code, message=record.failure.message, hint=record.failure.hint
        )
        return cls(
            id=record.id,
            status=record.status,
            stage=record.stage,
            progress=record.progress,
            attempt=record.attempt,
            message=record.message,
            spec=SpecOut.of(record.spec),
            verdict=record.verdict,
            failure=failure,
            created_at=record.created_at,
            started_at=record.started_at,
            finished_at=record.finished_at,
            links=Links.of(here),
        )


class AuditPage(Out):
    """Audits, newest first."""

    audits: tuple[AuditOut, ...]
    next_page_token: str | None = Field(exclude_if=_absent, description="Absent on the last page.")

    @classmethod
    def of(cls, page: Page) -> Self:
        """The outward form of ``page``."""
        return cls(audits=tuple(map(AuditOut.of, page.audits)), next_page_token=page.next_page_token)


class FeaturePage(Out):
    """Flagged features, in the report's order."""

    features: tuple[Feature, ...]
    next_page_token: str | None = Field(exclude_if=_absent, description="Absent on the last page.")


class ModelOut(Out):
    """A checkpoint that audits can name."""

    reference: str
    name: str
    kind: Literal["full", "lora"] | None = Field(description="Null where the checkpoint is refused.")
    architecture: str | None = Field(description="Null for adapters.")
    size_bytes: int = Field(ge=0)
    digest: str | None = Field(description="Null until the model was used once.")
    refused: str | None = Field(description="Why an audit of it would be refused; null where it would not.")


class ModelList(Out):
    """What the store can see."""

    models: tuple[ModelOut, ...]


class Alive(Out):
    """The process answers."""

    status: Literal["alive"]


class Ready(Out):
    """Ledger, broker and models root answer."""

    status: Literal["ready"]
