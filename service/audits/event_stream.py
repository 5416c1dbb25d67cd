"""An audit's history as server-sent events, for the API and for the audit's page."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

from fastapi import Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from backdoor_audit.contract.lifecycle import TERMINAL
from jobs.errors import LedgerError
from jobs.ledger import Ledger
from service.audits.schemas import EventOut
from service.errors import TooManyStreams
from service.http import problems

POLL_S: Final = 0.5
"""Seconds between two reads of the ledger, for each open stream."""
PING_EVERY_S: Final = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection open."""

_RECONNECT_MS: Final = 3_000
_HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event_stream(ledger: Ledger, owner: str, audit_id: str, after: int) -> Response:
    """The events after number ``after``, then each new one; 204 if there can be no more.

    Raises:
        AuditNotFound: the owner has no such audit.
    """
    record = ledger.get(audit_id, owner=owner)
    if record.status in TERMINAL and not ledger.events(audit_id, after=after, limit=1):
        return Response(status_code=204, headers=_HEADERS)
    return _Following(owner, _stream(ledger, audit_id, after))


class Streams:
    """How many streams each owner has open, counted in this process. For one event loop: nothing here waits."""

    def __init__(self, per_owner: int) -> None:
        self._per_owner = per_owner
        self._open: Counter[str] = Counter()

    @contextmanager
    def one(self, owner: str) -> Iterator[None]:
        """One more of this owner.

        Raises:
            TooManyStreams: there are as many as there may be.
        """
        if self._open[owner] >= self._per_owner:
            raise TooManyStreams
        self._open[owner] += 1
        try:
            yield
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]


class _Following(EventSourceResponse):
    """A stream that counts for its owner for as long as it is open."""

    def __init__(self, owner: str, content: AsyncIterator[bytes]) -> None:
        super().__init__(content, headers=_HEADERS)
        self._owner = owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, or say that there are too many streams."""
        streams: Streams = scope["app"].state.streams
        try:
            with streams.one(self._owner):
                await super().__call__(scope, receive, send)
        except TooManyStreams as error:
            await problems.for_error(error)(scope, receive, send)


async def _stream(ledger: Ledger, audit_id: str, after: int) -> AsyncIterator[bytes]:
    """Events until the audit has ended. Ends early when the ledger is unavailable: the client reconnects."""
    yield format_sse_event(retry=_RECONNECT_MS)
    sent_at = time.monotonic()
    while True:
        try:
            events = await run_in_threadpool(ledger.events, audit_id, after=after)
            ended = not events and await run_in_threadpool(_has_ended, ledger, audit_id, after)
        except LedgerError:
            return
        for event in events:
            after = event.sequence
            data = EventOut.of(event).model_dump_json()
            yield format_sse_event(data_str=data, event=event.kind, id=str(after))
            sent_at = time.monotonic()
            if event.kind == "status" and event.status in TERMINAL:
                return
        if ended:
            return
        if time.monotonic() - sent_at > PING_EVERY_S:
            yield KEEPALIVE_COMMENT
            sent_at = time.monotonic()
        if not events:
            await asyncio.sleep(POLL_S)


def _has_ended(ledger: Ledger, audit_id: str, after: int) -> bool:
    """Whether no event can follow: the audit ended before ``after``, or was deleted."""
    return ledger.get(audit_id).status in TERMINAL and not ledger.events(audit_id, after=after, limit=1)
