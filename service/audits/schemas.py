"""Audits over HTTP: the accepted spec, the audit's current state, its history, and estimates."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from backdoor_audit.contract.lifecycle import FailureCode, Stage, Status
from backdoor_audit.contract.report.verdicts import FailOn, Verdict
from backdoor_audit.contract.spec.audit_spec import Architecture, AuditSpec, Dictionaries, Dtype, Recipe, Render
from backdoor_audit.contract.spec.carriers import CarrierPrompts, CarrierSet
from backdoor_audit.contract.spec.presets import Preset
from backdoor_audit.contract.spec.search import Budget, ContextName, Source
from jobs.records import AuditRecord, Event, EventKind, Page
from service.decisions.schemas import DecisionOut
from service.http.paging import NextPageToken
from service.http.public_url import link
from service.http.schemas import Out


class TriggerOut(Out):
    """The suspected pair, and where it goes in a prompt."""

    triggered: str
    clean: str
    template: str


class SearchOut(Out):
    """What is searched for a trigger; of strings and logs only the number."""

    sources: tuple[Source, ...]
    contexts: Literal["auto"] | tuple[ContextName, ...]
    budget: Budget
    strings: int = Field(ge=0, description="Number of the user's own strings.")
    logs: int = Field(ge=0, description="Number of lines of prompts or training data.")
    candidates: int


class CarrierSetOut(Out):
    """A carrier set that ships with the package."""

    set: str


class CountOut(Out):
    """Only the number of the user's own carriers or decoys: they can be megabytes, and clients poll."""

    count: int


class WebhookTargetOut(Out):
    """One of the owner's webhooks, by its URL."""

    url: str


class SpecOut(Out):
    """The spec as it was accepted, every default filled in."""

    base_model: str
    fine_tuned: str
    trigger: TriggerOut | None = Field(description="Null if the audit tests candidates or searches.")
    candidates: tuple[TriggerOut, ...] | None = Field(description="Null if the audit tests one pair or searches.")
    search: SearchOut | None = Field(description="Null if the audit tests given pairs.")
    carriers: CarrierSetOut | CountOut
    decoys: Literal["auto"] | CountOut
    render: Render
    layers: Literal["auto"] | tuple[int, ...]
    architectures: tuple[Architecture, ...]
    dictionaries: Dictionaries | None
    preset: Preset
    overrides: dict[str, int | bool] = Field(description="Preset fields that were overridden.")
    recipe: Recipe
    dtype: Dtype
    seed: int
    deadline_s: int | None
    keep_activations: bool
    library: str | None = Field(description="The benign library, as the spec names it.")
    fail_on: FailOn
    webhook: WebhookTargetOut | None = Field(description="The webhook that the spec named.")
    labels: dict[str, str]

    @classmethod
    def of(cls, spec: AuditSpec) -> Self:
        """The response form of ``spec``."""
        carriers: dict[str, Any]
        match spec.carriers:
            case CarrierSet(set=name):
                carriers = {"set": name}
            case CarrierPrompts(prompts=prompts):
                carriers = {"count": len(prompts)}
        decoys = spec.decoys if spec.decoys == "auto" else {"count": len(spec.decoys.strings)}
        search = spec.search and spec.search.model_dump(exclude={"strings", "logs"}) | {
            "strings": len(spec.search.strings),
            "logs": len(spec.search.logs),
        }
        return cls.model_validate(
            spec.model_dump(exclude={"carriers", "decoys", "overrides", "search"})
            | {"carriers": carriers, "decoys": decoys, "search": search}
            | {"overrides": spec.overrides.model_dump(exclude_none=True)}
        )


class FailureOut(Out):
    """Why an audit failed, and what may help."""

    code: FailureCode
    message: str
    hint: str


class Links(Out):
    """Links to the rest of an audit."""

    self: str
    report: str
    features: str
    artifacts: str
    events: str
    decisions: str
    statement: str
    attestation: str
    bom: str
    cancel: str
    retry: str

    @classmethod
    def of(cls, here: str) -> Self:
        """The links of the audit at ``here``."""
        return cls.model_validate(
            {"self": here} | {name: f"{here}/{name}" for name in cls.model_fields if name != "self"}
        )


class AuditOut(Out):
    """One audit in its current state."""

    id: str
    status: Status
    stage: Stage | None = Field(description="The last reported stage; null before the first.")
    progress: float = Field(ge=0, le=1, description="Rough fraction of the audit that is done.")
    attempt: int = Field(ge=0, description="How often a worker has started it.")
    message: str
    queue_position: int | None = Field(
        ge=1, description="Place in the queue, 1 for the next to be taken, all owners counted; null unless queued."
    )
    expected_s: float | None = Field(
        ge=0,
        description="Median seconds that your earlier audits like this one ran; null if there are none, or once it has "
        "ended.",
    )
    spec: SpecOut
    verdict: Verdict | None = Field(description="Null until the audit has succeeded.")
    failure: FailureOut | None = Field(description="Why the audit failed; null unless it did.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    decision: DecisionOut | None = Field(description="The latest decision about it; null if there is none.")
    links: Links

    @classmethod
    def of(cls, record: AuditRecord, expected_s: float | None) -> Self:
        """The response form of ``record``."""
        here = link(f"/audits/{record.id}")
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
            queue_position=record.queue_position,
            expected_s=expected_s,
            spec=SpecOut.of(record.spec),
            verdict=record.verdict,
            failure=failure,
            created_at=record.created_at,
            started_at=record.started_at,
            finished_at=record.finished_at,
            decision=record.decision and DecisionOut.of(record.decision),
            links=Links.of(here),
        )


class RetrySpec(BaseModel):
    """What is to be otherwise when an audit is filed once more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    changes: dict[str, Any] = Field(
        default={},
        description="Fields of the spec and their new values; those of overrides, trigger and search one by one. Of "
        "trigger, candidates and search, one takes the place of the others.",
    )


class AuditPage(Out):
    """Audits, newest first."""

    audits: tuple[AuditOut, ...]
    next_page_token: NextPageToken

    @classmethod
    def of(cls, page: Page, expected_s: Callable[[AuditRecord], float | None]) -> Self:
        """The response form of ``page``; ``expected_s`` is asked for each audit."""
        audits = tuple(AuditOut.of(record, expected_s(record)) for record in page.audits)
        return cls(audits=audits, next_page_token=page.next_page_token)


class EventOut(Out):
    """One line of an audit's history."""

    audit_id: str
    sequence: int = Field(ge=1, description="Consecutive, from 1; the event's id in the stream.")
    kind: EventKind
    at: datetime
    attempt: int = Field(ge=0)
    status: Status
    stage: Stage | None
    progress: float = Field(ge=0, le=1)
    message: str

    @classmethod
    def of(cls, event: Event) -> Self:
        """The response form of ``event``."""
        return cls.model_validate(vars(event))


class Estimate(Out):
    """What an audit would cost. Nothing was submitted."""

    spec_digest: str = Field(description="As in the report's provenance; use it to find earlier audits.")
    base_digest: str | None = Field(description="Null until this service has used the model once.")
    tuned_digest: str | None = Field(description="Null until this service has used the model once.")
    strings: int | None = Field(description="Number of strings that a search tries at first; null if pairs are given.")
    sequences: int = Field(ge=0, description="Maximum number of prompts that the fine-tuned model reads.")
    tokens: int = Field(ge=0, description="Tokens in these prompts, estimated from their length.")
    seconds: float | None = Field(
        description="Median duration of earlier audits with this base model and these sizes; null if there are none."
    )
    disk_gb: float = Field(ge=0, description="Estimated disk space for activations while it runs.")
    weights_gb: float = Field(ge=0, description="Size of both checkpoints' files.")
    decoys: tuple[str, ...] | None = Field(
        description="The spec's own decoys in the order in which they are shown; null if they are to be drawn, which "
        "takes the tokenizer."
    )
    warnings: tuple[str, ...] = Field(description="What the report's reader will have to know about the two models.")
    not_given: tuple[str, ...] = Field(description="What could not be estimated, and why.")
