"""An audit's history as server-sent events. Polling is the primary way; this is for pages that people watch."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response

from service.audits.event_stream import event_stream
from service.audits.routes import AuditId
from service.dependencies import DependenciesDep
from service.http.auth import OwnerDep, get_caller, requires
from service.http.queries import refuse_unknown
from service.openapi_document.fragments import described, named

router = APIRouter(tags=["audits"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])


@router.get(
    "/audits/{audit_id}/events",
    summary="Follow an audit",
    dependencies=[Depends(requires("audits:read"))],
    # Not the framework's own class for this: it would run the function as a generator, which cannot return 204.
    response_class=Response,
    responses=described(
        {
            200: {
                "description": "Each `data` is one `Event`; `id` is its sequence, `event` its kind.",
                # Without a type: this OpenAPI version has no schema for the events of a stream.
                "content": {"text/event-stream": {"schema": {}, "examples": named("events")}},
            },
            204: {"description": "The audit has ended and no event follows `Last-Event-ID`: do not reconnect."},
        },
        404,
        422,
        503,
    ),
)
def follow_audit(
    dependencies: DependenciesDep,
    owner: OwnerDep,
    audit_id: AuditId,
    last_event_id: Annotated[
        int,
        Header(ge=0, le=2**31 - 1, description="Last event that the client received; the stream starts after it."),
    ] = 0,
) -> Response:
    """The history from `Last-Event-ID` on, then each event as it happens, up to the terminal state."""
    return event_stream(dependencies.ledger, owner, audit_id, last_event_id)
