"""What goes out over HTTP, and the smaller bodies that come in.

Nothing that goes out has a default: a client sees every field in every answer. The one exception is
``next_page_token``, which is absent on the last page.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from backdoor_audit.contract.report import Feature
from backdoor_audit.contract.spec import (
    Architecture,
    AuditSpec,
    CarrierPrompts,
    CarrierSet,
    Dtype,
    FailureCode,
    Preset,
    Recipe,
    Render,
    Stage,
    Status,
)
from backdoor_audit.contract.verdicts import FailOn, Verdict
from jobs.keys import SCOPES, KeyRecord, Scope
from jobs.records import AuditRecord, Page
from jobs.webhooks.repository import DeliveryRecord, WebhookRecord
from service.errors import Place

T = TypeVar("T")

_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9 ._@/-]*$"


class Out(BaseModel):
    """Base of everything that goes out."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def absent(value: object) -> bool:
    """Whether a field is left out of an answer."""
    return value is None


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) != len(values):
        raise ValueError("must be distinct")
    return values


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


class WebhookTargetOut(Out):
    """One of the owner's webhooks, by its address."""

    url: str


class SpecOut(Out):
    """The spec as it was accepted, every default filled in."""

    base_model: str
    fine_tuned: str
    trigger: TriggerOut | None = Field(description="Null where candidates were asked about.")
    candidates: tuple[TriggerOut, ...] | None = Field(description="Null where one pair was asked about.")
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
    library: str | None = Field(description="The benign library, as it was named.")
    fail_on: FailOn
    webhook: WebhookTargetOut | None = Field(description="The webhook that the spec named.")
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
    next_page_token: str | None = Field(exclude_if=absent, description="Absent on the last page.")

    @classmethod
    def of(cls, page: Page) -> Self:
        """The outward form of ``page``."""
        return cls(audits=tuple(map(AuditOut.of, page.audits)), next_page_token=page.next_page_token)


class FeaturePage(Out):
    """Flagged features, in the report's order."""

    features: tuple[Feature, ...]
    next_page_token: str | None = Field(exclude_if=absent, description="Absent on the last page.")


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


class KeySpec(BaseModel):
    """The API key that is wanted."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_NAME)] = Field(
        description="What the key is for, to tell it from others."
    )
    scopes: Annotated[
        tuple[Scope, ...],
        Field(min_length=1, max_length=len(SCOPES), json_schema_extra={"uniqueItems": True}),
        AfterValidator(_distinct),
    ] = Field(description="What the key may do; `admin` holds all others.")
    owner: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_NAME)] | None = Field(
        default=None, description="Whose audits it sees and files; the owner who asks by default."
    )
    expires_in_s: int | None = Field(
        default=None, ge=1, le=10 * 366 * 86_400, description="Seconds until it ends; null for a key without an end."
    )


class KeyOut(Out):
    """One API key, without its text."""

    id: str
    owner: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None = Field(description="When it ends; null where it does not.")
    revoked_at: datetime | None = Field(description="When it was revoked; null where it was not.")

    @classmethod
    def of(cls, record: KeyRecord) -> Self:
        """The outward form of ``record``."""
        return cls(
            id=record.id,
            owner=record.owner,
            name=record.name,
            scopes=tuple(sorted(record.scopes)),
            created_at=record.created_at,
            expires_at=record.expires_at,
            revoked_at=record.revoked_at,
        )


class KeyCreated(KeyOut):
    """A new API key; nobody can see ``key`` again."""

    key: str


class KeyList(Out):
    """Keys of every owner, newest first."""

    keys: tuple[KeyOut, ...]


class WebhookSpec(BaseModel):
    """The webhook that is wanted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, StringConstraints(min_length=1, max_length=2_000, pattern=r"^https?://[!-~]+$")] = Field(
        description="Where messages are posted; `http` only where the operator allows it."
    )
    every_audit: bool = Field(
        default=True, description="Whether it hears of every audit of its owner, or of those alone that name it."
    )


class WebhookOut(Out):
    """One webhook, without its secret."""

    id: str
    url: str
    every_audit: bool
    created_at: datetime
    disabled_at: datetime | None = Field(
        description="When the other side said that it is gone (410); from then on it is told nothing."
    )

    @classmethod
    def of(cls, record: WebhookRecord) -> Self:
        """The outward form of ``record``."""
        return cls(
            id=record.id,
            url=record.url,
            every_audit=record.every_audit,
            created_at=record.created_at,
            disabled_at=record.disabled_at,
        )


class WebhookCreated(WebhookOut):
    """A new webhook; nobody can see ``secret`` again."""

    secret: str = Field(description="What its messages are signed with, as the libraries of Standard Webhooks take it.")


class WebhookList(Out):
    """The owner's webhooks, newest first."""

    webhooks: tuple[WebhookOut, ...]


class AttemptOut(Out):
    """One try at a delivery."""

    at: datetime
    status: int | None = Field(description="The HTTP status of the answer; null where there was none.")
    error: str | None = Field(
        description="Null where it was taken; else `status`, `redirect`, `timeout`, `connection`, `certificate` or "
        "`address_refused`."
    )
    seconds: float


class DeliveryOut(Out):
    """One message for one webhook, and how sending it went."""

    id: str = Field(description="Also the message's `webhook-id`; the same at every attempt.")
    webhook_id: str
    audit_id: str | None = Field(description="Null for a test.")
    type: str
    state: Literal["pending", "delivered", "failed"]
    created_at: datetime
    attempts: tuple[AttemptOut, ...] = Field(description="The last twenty, oldest first.")

    @classmethod
    def of(cls, record: DeliveryRecord) -> Self:
        """The outward form of ``record``."""
        attempts = tuple(
            AttemptOut(at=datetime.fromisoformat(one.at), status=one.status, error=one.error, seconds=one.seconds)
            for one in record.attempts
        )
        return cls(
            id=record.id,
            webhook_id=record.webhook_id,
            audit_id=record.audit_id,
            type=record.kind,
            state=record.state,
            created_at=record.created_at,
            attempts=attempts,
        )


class DeliveryPage(Out):
    """Deliveries, newest first."""

    deliveries: tuple[DeliveryOut, ...]
    next_page_token: str | None = Field(exclude_if=absent, description="Absent on the last page.")


class Alive(Out):
    """The process answers."""

    status: Literal["alive"]
    method_version: str = Field(description="Of what its audits compute; a report names the version that made it.")


class Ready(Out):
    """Ledger, broker and models root answer."""

    status: Literal["ready"]


INCOMING: Final[tuple[type[BaseModel], ...]] = (KeySpec, WebhookSpec)
"""Bodies that calls take and that are read by ``service.http.json_body``, besides the audit's spec."""
