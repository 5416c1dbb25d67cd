"""How long things may take before the ledger acts."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """The ledger's settings. All durations are seconds."""

    lease_s: float
    """How long a claim lives without a heartbeat."""
    max_attempts: int
    """How many attempts may be lost before the audit fails; released ones do not count."""
    requeue_after_s: float
    """How long a queued audit waits before it is handed out to be enqueued once more."""

    max_queued: int | None = None
    """How many queued audits one owner may have; None for any number."""

    max_deadline_s: float | None = None
    """How long any audit may take from its first claim; None for as long as its spec lets it."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lease_s) and self.lease_s > 0):
            raise ValueError("lease_s must be a positive number of seconds")
        if not (math.isfinite(self.requeue_after_s) and self.requeue_after_s > 0):
            raise ValueError("requeue_after_s must be a positive number of seconds")
        if self.max_deadline_s is not None and not self.max_deadline_s > 0:
            raise ValueError("max_deadline_s must be a positive number of seconds")
        if self.max_queued is not None and self.max_queued < 1:
            raise ValueError("max_queued must be at least 1")
        if self.max_attempts < 1:
            raise ValueError("max_attempts must be at least 1")
