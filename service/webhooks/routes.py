"""Webhooks: who is told that an audit has ended, and how telling them went."""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from backdoor_audit.contract.ids import DELIVERY_ID, WEBHOOK_ID
from jobs.errors import (
    DeliveryNotFound,
    InvalidPageToken,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
    WebhookTaken,
)
from service.dependencies import DependenciesDep
from service.http.auth import OwnerDep, get_caller, requires
from service.http.json_body import body_of, reading
from service.http.queries import refuse_unknown
from service.openapi_document import examples
from service.openapi_document.fragments import answer, described, header
from service.webhooks import addresses, signing
from service.webhooks.schemas import DeliveryOut, DeliveryPage, WebhookCreated, WebhookList, WebhookOut, WebhookSpec

router = APIRouter(tags=["webhooks"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])

WebhookId = Annotated[str, Path(pattern=WEBHOOK_ID, description="The id of a webhook.", examples=[examples.WEBHOOK_ID])]
DeliveryId = Annotated[
    str, Path(pattern=DELIVERY_ID, description="The id of a delivery.", examples=[examples.DELIVERY_ID])
]


@router.post(
    "/webhooks",
    status_code=201,
    summary="Register a webhook",
    dependencies=[Depends(requires("audits:write"))],
    response_model=WebhookCreated,
    openapi_extra=body_of(WebhookSpec, "webhook_spec"),
    responses=described(
        {
            201: answer(
                "The webhook. Its signing secret is in this answer and nowhere else.",
                "webhook_created",
                {"Location": header("Where the webhook is.")},
            )
        },
        400,
        WebhookTaken,
        TooManyWebhooks,
        413,
        415,
        422,
        503,
    ),
)
def create_webhook(
    response: Response,
    dependencies: DependenciesDep,
    owner: OwnerDep,
    wanted: Annotated[WebhookSpec, Depends(reading(WebhookSpec))],
) -> WebhookCreated:
    """Have the ends of audits posted to an address, signed as in Standard Webhooks."""
    addresses.check(wanted.url, dependencies.settings.webhook_networks)
    secret = signing.new_secret()
    record = dependencies.ledger.webhooks.create(
        owner=owner, url=wanted.url, secret=secret, every_audit=wanted.every_audit
    )
    response.headers["Location"] = f"/webhooks/{record.id}"
    response.headers["Cache-Control"] = "no-store"
    return WebhookCreated(secret=secret, **WebhookOut.of(record).model_dump())


@router.get(
    "/webhooks",
    summary="List webhooks",
    dependencies=[Depends(requires("audits:read"))],
    response_model=WebhookList,
    responses=described({200: answer("Newest first.", "webhook_list")}, 422, 503),
)
def list_webhooks(dependencies: DependenciesDep, owner: OwnerDep) -> WebhookList:
    """The owner's webhooks, without their secrets."""
    return WebhookList(webhooks=tuple(map(WebhookOut.of, dependencies.ledger.webhooks.list(owner=owner))))


@router.get(
    "/webhooks/{webhook_id}",
    summary="Look at a webhook",
    dependencies=[Depends(requires("audits:read"))],
    response_model=WebhookOut,
    responses=described({200: answer("The webhook.", "webhook")}, WebhookNotFound, 503),
)
def get_webhook(dependencies: DependenciesDep, owner: OwnerDep, webhook_id: WebhookId) -> WebhookOut:
    """One webhook, without its secret."""
    return WebhookOut.of(dependencies.ledger.webhooks.get(webhook_id, owner=owner))


@router.delete(
    "/webhooks/{webhook_id}",
    status_code=204,
    response_class=Response,
    summary="Remove a webhook",
    dependencies=[Depends(requires("audits:write"))],
    responses=described(
        {204: {"description": "The webhook and its log are gone; what was not sent yet is not sent."}},
        WebhookNotFound,
        503,
    ),
)
def delete_webhook(dependencies: DependenciesDep, owner: OwnerDep, webhook_id: WebhookId) -> None:
    """Tell this address nothing more."""
    dependencies.ledger.webhooks.delete(webhook_id, owner=owner)


@router.post(
    "/webhooks/{webhook_id}/test",
    status_code=202,
    summary="Send a test message",
    dependencies=[Depends(requires("audits:write"))],
    response_model=DeliveryOut,
    responses=described(
        {202: answer("It will be sent; the log of deliveries says how that went.", "delivery_pending")},
        WebhookNotFound,
        WebhookDisabled,
        503,
    ),
)
def test_webhook(dependencies: DependenciesDep, owner: OwnerDep, webhook_id: WebhookId) -> DeliveryOut:
    """Post a message of the type `webhook.test`, in the same way as every other."""
    return DeliveryOut.of(dependencies.ledger.webhooks.test(webhook_id, owner=owner))


@router.get(
    "/webhooks/{webhook_id}/deliveries",
    summary="List deliveries",
    dependencies=[Depends(requires("audits:read"))],
    response_model=DeliveryPage,
    responses=described({200: answer("Newest first.", "delivery_page")}, WebhookNotFound, 422, 503),
)
def list_deliveries(
    dependencies: DependenciesDep,
    owner: OwnerDep,
    webhook_id: WebhookId,
    page_token: Annotated[
        str | None, Query(max_length=1024, description="`next_page_token` of the page before.")
    ] = None,
    page_size: Annotated[int, Query(ge=1, le=200, description="Deliveries on a page.")] = 50,
) -> DeliveryPage:
    """What was sent to this address, or is to be, with every attempt. Settled ones are kept for thirty days."""
    found = dependencies.ledger.webhooks.deliveries(
        webhook_id, owner=owner, before=_before(page_token), limit=page_size + 1
    )
    token = _token(found[page_size - 1].id) if len(found) > page_size else None
    return DeliveryPage(deliveries=tuple(map(DeliveryOut.of, found[:page_size])), next_page_token=token)


@router.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/replay",
    status_code=202,
    summary="Send a message again",
    dependencies=[Depends(requires("audits:write"))],
    response_model=DeliveryOut,
    responses=described(
        {202: answer("It will be sent again, with the same id and body.", "delivery_pending")},
        WebhookNotFound,
        DeliveryNotFound,
        WebhookDisabled,
        503,
    ),
)
def replay_delivery(
    dependencies: DependenciesDep, owner: OwnerDep, webhook_id: WebhookId, delivery_id: DeliveryId
) -> DeliveryOut:
    """For a message that the other side lost, or that failed."""
    return DeliveryOut.of(dependencies.ledger.webhooks.replay(webhook_id, delivery_id, owner=owner))


def _token(last_id: str) -> str:
    return base64.urlsafe_b64encode(f"deliveries:{last_id}".encode()).decode().rstrip("=")


def _before(token: str | None) -> str | None:
    if token is None:
        return None
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise InvalidPageToken("not a page token") from None
    prefix, _, last_id = text.partition(":")
    if prefix != "deliveries" or not last_id.startswith("msg_"):
        raise InvalidPageToken("not a page token of this listing")
    return last_id
