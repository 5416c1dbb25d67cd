"""The service's responses, read tolerantly.

Fields that a newer service adds are kept and passed on. Unknown words (a new status, a new verdict) stay strings. Only
fields that the client itself depends on are required.
"""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from backdoor_audit.contract.lifecycle import TERMINAL
from backdoor_audit.contract.report.features import Feature


class Answer(BaseModel):
    """Immutable; unknown fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Page(Answer):
    """One page of a listing; ``next_page_token`` is None on the last one."""

    next_page_token: str | None = None


class FailureView(Answer):
    """Why an audit could not be carried out."""

    code: str
    message: str
    hint: str = ""


class Decision(Answer):
    """What somebody decided about an audit's result; the latest one holds."""

    id: str
    decision: str
    decided_by: str = ""
    because: str = ""
    key_id: str | None = None
    created_at: datetime | None = None


class DecisionListing(Answer):
    """All decisions about an audit, the first one first."""

    decisions: tuple[Decision, ...]


class Audit(Answer):
    """An audit's current state."""

    id: str
    status: str
    stage: str | None = None
    progress: float = 0.0
    attempt: int = 0
    message: str | None = None
    queue_position: int | None = None
    """The place in the queue, 1 for the next; None unless it is queued."""
    expected_s: float | None = None
    """Seconds that earlier audits like this one ran, in the median; None if there were none, or once it has ended."""
    spec: dict[str, Any] = {}
    verdict: str | None = None
    failure: FailureView | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    decision: Decision | None = None
    """The latest decision about it."""
    links: dict[str, Any] = {}

    @property
    def terminal(self) -> bool:
        """Whether the audit has reached its final state."""
        return self.status in TERMINAL


class BatchAudit(Answer):
    """One audit of a batch."""

    id: str
    status: str
    verdict: str | None = None
    fails: bool = False
    """Whether the verdict meets the spec's ``fail_on``."""
    failure: FailureView | None = None
    decision: Decision | None = None
    base_model: str = ""
    fine_tuned: str = ""
    summary: str = ""

    @property
    def terminal(self) -> bool:
        """Whether the audit has reached its final state."""
        return self.status in TERMINAL


class Batch(Answer):
    """Many audits that were filed together, worst first."""

    id: str
    ended: bool
    results: dict[str, int] = {}
    audits: tuple[BatchAudit, ...]


class ComparedField(Answer):
    """One value of two reports."""

    name: str
    left: Any = None
    right: Any = None
    differs: bool = False


class Comparison(Answer):
    """Two reports side by side."""

    left: str
    right: str
    comparable: bool = False
    """Whether both asked the same question of the same base."""
    fields: tuple[ComparedField, ...]


class Estimate(Answer):
    """What an audit would take; None stands for what could not be told, and ``not_given`` says why."""

    spec_digest: str = ""
    base_digest: str | None = None
    tuned_digest: str | None = None
    strings: int | None = None
    sequences: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    disk_gb: float | None = None
    weights_gb: float | None = None
    decoys: tuple[str, ...] | None = None
    not_given: tuple[str, ...] = ()


class Alive(Answer):
    """The service responds. ``method_version`` is empty if the service is too old to report it."""

    method_version: str = ""


class Model(Answer):
    """A checkpoint that the service can see; sizes are bytes."""

    name: str
    reference: str | None = None
    kind: str | None = None
    architecture: str | None = None
    size_bytes: int | None = None
    digest: str | None = None
    refused: str | None = None


class Key(Answer):
    """An API key; its secret, ``key``, is only in the response that created it."""

    id: str
    owner: str
    name: str = ""
    scopes: tuple[str, ...] = ()
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    key: str | None = None


class KeyPage(Answer):
    """The keys of one response."""

    keys: tuple[Key, ...]


class Library(Answer):
    """A benign library."""

    id: str
    name: str
    entries: int = 0
    created_at: datetime | None = None


class LibraryPage(Page):
    """One page of libraries."""

    libraries: tuple[Library, ...]


class Entry(Answer):
    """One model of a benign library."""

    id: str
    audit_id: str | None = None
    fine_tuned: str = ""
    tuned_digest: str = ""
    recipe: str | None = None
    because: str | None = None
    score: float | None = None
    effect_nats: float | None = None
    noise_nats: float | None = None
    key: dict[str, Any] = {}
    created_at: datetime | None = None


class EntryPage(Page):
    """One page of a library's models."""

    entries: tuple[Entry, ...]


class AuditPage(Page):
    """One page of audits, newest first."""

    audits: tuple[Audit, ...]


class ModelPage(Page):
    """The models of one response."""

    models: tuple[Model, ...]


class FeaturePage(Page):
    """One page of flagged features."""

    features: tuple[Feature, ...]
