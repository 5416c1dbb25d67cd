"""Webhooks and their deliveries over HTTP: what comes in and what goes out."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from jobs.webhooks.records import DeliveryRecord, WebhookRecord
from service.http.schemas import Out, absent


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
