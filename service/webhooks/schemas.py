"""Webhooks and their deliveries over HTTP: requests and responses."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from jobs.webhooks.records import DeliveryRecord, WebhookRecord
from service.http.paging import NextPageToken
from service.http.schemas import Out


class WebhookSpec(BaseModel):
    """The webhook to register."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, StringConstraints(min_length=1, max_length=2_000, pattern=r"^https?://[!-~]+$")] = Field(
        description="Where messages are posted; `http` only if the operator allows it."
    )
    every_audit: bool = Field(
        default=True, description="Whether to notify it of every audit of its owner, or only of audits that name it."
    )


class WebhookOut(Out):
    """One webhook, without its secret."""

    id: str
    url: str
    every_audit: bool
    created_at: datetime
    disabled_at: datetime | None = Field(
        description="When the receiver answered 410 Gone; it has been sent nothing since."
    )

    @classmethod
    def of(cls, record: WebhookRecord) -> Self:
        """The response form of ``record``."""
        return cls(
            id=record.id,
            url=record.url,
            every_audit=record.every_audit,
            created_at=record.created_at,
            disabled_at=record.disabled_at,
        )


class WebhookCreated(WebhookOut):
    """A new webhook; ``secret`` is shown only once."""

    secret: str = Field(description="Signing secret, in the format of the Standard Webhooks libraries.")


class WebhookList(Out):
    """The owner's webhooks, newest first."""

    webhooks: tuple[WebhookOut, ...]


class AttemptOut(Out):
    """One delivery attempt."""

    at: datetime
    status: int | None = Field(description="HTTP status of the response; null if there was none.")
    error: str | None = Field(
        description="Null if it was delivered; else `status`, `redirect`, `timeout`, `connection`, `certificate`, "
        "`address_refused`, or `secret` (the service lacks the key that the signing secret was encrypted with)."
    )
    seconds: float


class DeliveryOut(Out):
    """One message to one webhook, with its delivery attempts."""

    id: str = Field(description="Also the message's `webhook-id`; the same at every attempt.")
    webhook_id: str
    audit_id: str | None = Field(description="Null for a test.")
    type: str
    state: Literal["pending", "delivered", "failed"]
    created_at: datetime
    attempts: tuple[AttemptOut, ...] = Field(description="The last twenty, oldest first.")

    @classmethod
    def of(cls, record: DeliveryRecord) -> Self:
        """The response form of ``record``."""
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
    next_page_token: NextPageToken
