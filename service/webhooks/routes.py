"""Calls for webhooks: who is notified when an audit ends, and the delivery log."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from backdoor_audit.contract.ids import DELIVERY_ID, WEBHOOK_ID
from jobs.errors import (
    DeliveryNotFound,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
    WebhookTaken,
)
from service.dependencies import DependenciesDep
from service.http.auth import OwnerDep, get_caller, requires
from service.http.json_body import body_of, reading
from service.http.paging import PagingDep
from service.http.public_url import link
from service.http.queries import refuse_unknown
from service.openapi_document.fragments import answer, described, header
from service.webhooks import examples, service
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
                "The webhook. Its signing secret is in this response only.",
                "webhook_created",
                {"Location": header("URL of the webhook.")},
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
    """Post a message to a URL when an audit ends, signed as in Standard Webhooks."""
    record, secret = service.create_webhook(dependencies, owner, wanted.url, every_audit=wanted.every_audit)
    response.headers["Location"] = link(f"/webhooks/{record.id}")
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
    summary="Get a webhook",
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
    summary="Delete a webhook",
    dependencies=[Depends(requires("audits:write"))],
    responses=described(
        {204: {"description": "The webhook and its log are deleted; pending messages are not sent."}},
        WebhookNotFound,
        503,
    ),
)
def delete_webhook(dependencies: DependenciesDep, owner: OwnerDep, webhook_id: WebhookId) -> None:
    """Stop sending messages to this URL."""
    dependencies.ledger.webhooks.delete(webhook_id, owner=owner)


@router.post(
    "/webhooks/{webhook_id}/test",
    status_code=202,
    summary="Send a test message",
    dependencies=[Depends(requires("audits:write"))],
    response_model=DeliveryOut,
    responses=described(
        {202: answer("It will be sent; the delivery log shows the result.", "delivery_pending")},
        WebhookNotFound,
        WebhookDisabled,
        503,
    ),
)
def test_webhook(
    request: Request, dependencies: DependenciesDep, owner: OwnerDep, webhook_id: WebhookId
) -> DeliveryOut:
    """Post a message of type `webhook.test`, like any other message."""
    service.take_extra_message(request.app.state.extra_messages, owner)
    return DeliveryOut.of(dependencies.ledger.webhooks.test(webhook_id, owner=owner))


@router.get(
    "/webhooks/{webhook_id}/deliveries",
    summary="List deliveries",
    dependencies=[Depends(requires("audits:read"))],
    response_model=DeliveryPage,
    responses=described({200: answer("Newest first.", "delivery_page")}, WebhookNotFound, 422, 503),
)
def list_deliveries(
    dependencies: DependenciesDep, owner: OwnerDep, webhook_id: WebhookId, paging: PagingDep
) -> DeliveryPage:
    """What was or will be sent to this URL, with every attempt. Settled deliveries are kept for thirty days."""
    records, token = service.list_deliveries(
        dependencies, owner, webhook_id, page_token=paging.page_token, page_size=paging.page_size
    )
    return DeliveryPage(deliveries=tuple(map(DeliveryOut.of, records)), next_page_token=token)


@router.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/replay",
    status_code=202,
    summary="Send a message again",
    dependencies=[Depends(requires("audits:write"))],
    response_model=DeliveryOut,
    responses=described(
        {202: answer("It will be sent again with the same id and body.", "delivery_pending")},
        WebhookNotFound,
        DeliveryNotFound,
        WebhookDisabled,
        503,
    ),
)
def replay_delivery(
    request: Request, dependencies: DependenciesDep, owner: OwnerDep, webhook_id: WebhookId, delivery_id: DeliveryId
) -> DeliveryOut:
    """For a message that the receiver lost, or whose delivery failed."""
    service.take_extra_message(request.app.state.extra_messages, owner)
    return DeliveryOut.of(dependencies.ledger.webhooks.replay(webhook_id, delivery_id, owner=owner))
