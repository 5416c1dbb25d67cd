"""What the ledger hands out about webhooks: frozen records, free of SQL."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

State = Literal["pending", "delivered", "failed"]


@dataclass(frozen=True)
class WebhookRecord:
    """One webhook, without its secret."""

    id: str
    owner: str
    url: str
    every_audit: bool
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True)
class AttemptRecord:
    """One try at a delivery."""

    at: str
    """When it began, ISO 8601."""
    status: int | None
    """The HTTP status of the answer; None without one."""
    error: str | None
    """Why it failed, in a word; None for a success."""
    seconds: float


@dataclass(frozen=True)
class DeliveryRecord:
    """One message for one webhook, and how sending it went; ``attempts`` holds the latest, oldest first."""

    id: str
    webhook_id: str
    audit_id: str | None
    kind: str
    state: State
    created_at: datetime
    attempts: tuple[AttemptRecord, ...]


@dataclass(frozen=True)
class Outgoing:
    """A message that a sender has taken for the time it asked for."""

    id: str
    webhook_id: str
    owner: str
    url: str
    stored_secret: str
    """Its webhook's signing secret, as it was given to the ledger."""
    body: str
    tries: int
    """Attempts before this one, since the message was filed or replayed."""
