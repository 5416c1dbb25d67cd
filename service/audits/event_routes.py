"""An audit's history as server-sent events. Polling stays the primary way; this is for pages that people watch."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.concurrency import run_in_threadpool

from backdoor_audit.contract.spec import TERMINAL
from jobs.errors import LedgerError
from jobs.ledger import Ledger
from service.audits.history_schemas import EventOut
from service.audits.routes import AuditId
from service.dependencies import ServicesDep
from service.http.auth import OwnerDep, get_caller, requires
from service.http.queries import refuse_unknown
from service.openapi_document.fragments import described, named

LOOK_EVERY_S: Final = 0.5
"""Seconds between two looks at the ledger for each open stream."""
PING_EVERY_S: Final = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection."""

_RECONNECT_MS: Final = 3_000

router = APIRouter(tags=["audits"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])


@router.get(
    "/audits/{audit_id}/events",
    summary="Follow an audit",
    dependencies=[Depends(requires("audits:read"))],
    # Not the framework's class for this: it would run the function as a generator, which cannot answer 204.
    response_class=Response,
    responses=described(
        {
            200: {
                "description": "Each `data` is one `Event`; `id` is its sequence, `event` its kind.",
                # Without a type: the document's version has no schema for the events of a stream.
                "content": {"text/event-stream": {"schema": {}, "examples": named("events")}},
            },
            204: {"description": "The audit has ended and there is nothing after `Last-Event-ID`: do not reconnect."},
        },
        404,
        422,
        503,
    ),
)
def follow_audit(
    services: ServicesDep,
    owner: OwnerDep,
    audit_id: AuditId,
    last_event_id: Annotated[
        int, Header(ge=0, le=2**31 - 1, description="The last event that the client has; it gets those after it.")
    ] = 0,
) -> Response:
    """The whole history, or what came after `Last-Event-ID`, then every event as it comes, to the terminal state."""
    record = services.ledger.get(audit_id, owner=owner)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    if record.status in TERMINAL and not services.ledger.events(audit_id, after=last_event_id, limit=1):
        return Response(status_code=204, headers=headers)
    return EventSourceResponse(_stream(services.ledger, audit_id, last_event_id), headers=headers)


async def _stream(ledger: Ledger, audit_id: str, after: int) -> AsyncIterator[bytes]:
    """Events from the ledger until the audit has ended; ends early where the ledger is out: the client comes back."""
    yield format_sse_event(retry=_RECONNECT_MS)
    spoke_at = time.monotonic()
    while True:
        try:
            found = await run_in_threadpool(ledger.events, audit_id, after=after)
            ended = not found and await run_in_threadpool(_has_ended, ledger, audit_id, after)
        except LedgerError:
            return
        for event in found:
            after = event.sequence
            data = EventOut.of(event).model_dump_json()
            yield format_sse_event(data_str=data, event=event.kind, id=str(after))
            spoke_at = time.monotonic()
            if event.kind == "status" and event.status in TERMINAL:
                return
        if ended:
            return
        if time.monotonic() - spoke_at > PING_EVERY_S:
            yield KEEPALIVE_COMMENT
            spoke_at = time.monotonic()
        if not found:
            await asyncio.sleep(LOOK_EVERY_S)


def _has_ended(ledger: Ledger, audit_id: str, after: int) -> bool:
    """Whether nothing can come any more: the audit has ended before ``after``, or was deleted."""
    return ledger.get(audit_id).status in TERMINAL and not ledger.events(audit_id, after=after, limit=1)
