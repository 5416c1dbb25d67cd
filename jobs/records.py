"""What the ledger hands out: frozen records, free of SQL."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypedDict

from backdoor_audit.contract.benign_library import LibraryEntry
from backdoor_audit.contract.decisions import Choice
from backdoor_audit.contract.lifecycle import Failure, Stage, Status
from backdoor_audit.contract.report.verdicts import Verdict
from backdoor_audit.contract.spec.audit_spec import AuditSpec

EventKind = Literal["status", "progress"]


@dataclass(frozen=True)
class Decision:
    """What somebody decided about an audit."""

    id: str
    audit_id: str
    choice: Choice
    decided_by: str
    """Who, as they say."""
    because: str
    key_id: str | None
    """The API key that the decision came with; None without one."""
    created_at: datetime


@dataclass(frozen=True)
class AuditRecord:
    """One audit as the ledger knows it. Timestamps are aware, in UTC."""

    id: str
    owner: str
    status: Status
    stage: Stage | None
    """The stage last reported; None before the first worker says something."""
    progress: float
    """Rough share of the whole audit that is done, 0–1."""
    message: str
    attempt: int
    """The number of claims so far; the number of the live claim while there is one."""
    spec: AuditSpec
    verdict: Verdict | None
    failure: Failure | None
    created_at: datetime
    started_at: datetime | None
    """The first claim."""
    finished_at: datetime | None
    version: int
    """Raised with each visible change, for ``ETag``."""
    queue_position: int | None = None
    """The place among all queued audits, from 1; None unless it is queued. It changes without the version."""
    decision: Decision | None = None
    """The latest decision about it."""

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the spec."""
        return dict(self.spec.labels)


@dataclass(frozen=True)
class Submission:
    """The answer to a submit: the audit, and whether this call created it."""

    audit: AuditRecord
    created: bool


class AuditFilters(TypedDict, total=False):
    """What a listing of audits is narrowed to; a filter that is None, or not there, lets everything through."""

    status: Status | None
    verdict: Verdict | None
    base_model: str | None
    """As the spec names it."""
    fine_tuned: str | None
    labels: tuple[tuple[str, str | None], ...]
    """Names with the value that they must have, or None for any value; all of them hold."""
    batch: str | None
    """The id of the batch that it was filed in."""
    filed_since: datetime | None
    filed_before: datetime | None
    """Not at this moment itself."""
    id_prefix: str | None
    tuned_digest: str | None
    """Only an audit that has succeeded has one."""
    spec_digest: str | None


@dataclass(frozen=True)
class Page:
    """One page of a listing, newest first; ``next_page_token`` is None on the last."""

    audits: tuple[AuditRecord, ...]
    next_page_token: str | None


@dataclass(frozen=True)
class Claim:
    """One attempt at one audit. ``attempt`` fences every write made with it."""

    audit_id: str
    attempt: int
    spec: AuditSpec
    deadline_at: datetime | None
    """Wall-clock time of the deadline, for people; count ``seconds_left`` down on a monotonic clock instead."""
    owner: str
    worker: str
    seconds_left: float | None
    """Seconds from the claim to the deadline; None if the spec sets none."""
    library: tuple[LibraryEntry, ...] = ()
    """The benign scores that the audit compares with, as they were at the claim."""


@dataclass(frozen=True)
class Library:
    """A benign library."""

    id: str
    owner: str
    name: str
    created_at: datetime
    entries: int
    """How many models it holds."""


@dataclass(frozen=True)
class StoredEntry:
    """One model of a library."""

    id: str
    library_id: str
    audit_id: str | None
    """The audit that the score is of; None once that audit was deleted."""
    fine_tuned: str
    """The reference that the audit named the model by."""
    because: str | None
    """Why the model is taken to be benign though its audit's verdict is not ``no_evidence``."""
    created_at: datetime
    entry: LibraryEntry


@dataclass(frozen=True)
class LibraryPage:
    """One page of libraries, newest first."""

    libraries: tuple[Library, ...]
    next_page_token: str | None


@dataclass(frozen=True)
class EntryPage:
    """One page of entries, newest first."""

    entries: tuple[StoredEntry, ...]
    next_page_token: str | None


@dataclass(frozen=True)
class Heartbeat:
    """The answer to a heartbeat."""

    cancel_requested: bool
    seconds_left: float | None
    """Seconds to the deadline, negative when it has passed; None if the spec sets none."""


@dataclass(frozen=True)
class Event:
    """One line of an audit's history. ``sequence`` starts at 1 and has no gaps."""

    audit_id: str
    sequence: int
    kind: EventKind
    at: datetime
    attempt: int
    status: Status
    stage: Stage | None
    progress: float
    """Rough share of the whole audit, 0–1."""
    message: str


@dataclass(frozen=True)
class QueueCounts:
    """Numbers for the metrics page."""

    by_status: dict[Status, int]
    """Audits in each state; every state is there, with 0 if it has none."""
    oldest_queued_s: float
    """How long the longest-waiting queued audit has waited, seconds; 0 with an empty queue."""
    reaped_total: int
    """Leases that ran out since the ledger was created; never falls."""
    transitions: dict[str, int]
    """How often audits came into each state; never falls. A state that none came into is not there."""
    stage_seconds: dict[str, int]
    """Seconds that the succeeded audits spent in each stage, in all; never falls."""

    @property
    def queued(self) -> int:
        """Audits that wait for a worker."""
        return self.by_status["queued"]
