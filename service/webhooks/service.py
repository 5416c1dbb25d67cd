"""Use cases for webhooks that need more than one call of the ledger."""

from typing import Final

from jobs.errors import InvalidPageToken
from jobs.webhooks.records import DeliveryRecord, WebhookRecord
from service import page_tokens
from service.dependencies import Dependencies
from service.errors import TooManyRequests
from service.http.rates import RateLimit
from service.webhooks import addresses, signing

EXTRA_PER_MINUTE: Final = 30
"""Tests and replays that one owner may ask for in a minute, in each process."""

_LISTING: Final = "deliveries"


def create_webhook(dependencies: Dependencies, owner: str, url: str, *, every_audit: bool) -> tuple[WebhookRecord, str]:
    """Register a receiver. Returns the webhook and its signing secret, which cannot be shown again.

    Raises:
        InvalidRequest: the address is one that this service does not connect to.
        WebhookTaken, TooManyWebhooks: as their names say.
    """
    addresses.check(url, dependencies.settings.webhook_networks)
    secret = signing.new_secret()
    stored = dependencies.secrets.seal(secret)
    record = dependencies.ledger.webhooks.create(owner=owner, url=url, stored_secret=stored, every_audit=every_audit)
    return record, secret


def take_extra_message(rates: RateLimit, owner: str) -> None:
    """Count a test or a replay, which an owner may ask for some of in a minute.

    Raises:
        TooManyRequests: it has had them.
    """
    wait_s = rates.wait_s(owner)
    if wait_s:
        raise TooManyRequests(wait_s, "This owner has asked for as many tests and replays as one may in a minute.")


def list_deliveries(
    dependencies: Dependencies, owner: str, webhook_id: str, *, page_token: str | None, page_size: int
) -> tuple[list[DeliveryRecord], str | None]:
    """One page of a webhook's deliveries, newest first, and the token of the next.

    Raises:
        WebhookNotFound, InvalidPageToken: as their names say.
    """
    before = None if page_token is None else page_tokens.decode(_LISTING, page_token)
    if before is not None and not before.startswith("msg_"):
        raise InvalidPageToken("not a page token of this listing")
    records = dependencies.ledger.webhooks.deliveries(webhook_id, owner=owner, before=before, limit=page_size + 1)
    if len(records) <= page_size:
        return records, None
    return records[:page_size], page_tokens.encode(_LISTING, records[page_size - 1].id)
