"""Middleware around every request: version header, log line, metrics, body limit, and the last resort for errors."""

import asyncio
import re
import time
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooSlow, ContentTooLarge
from service.health.metrics import Metrics
from service.http import problems
from service.version import API_VERSION, VERSION_HEADER

MAX_BODY_BYTES: Final = 8 * 2**20
_SLOWEST_BYTES_PER_S: Final = 1_000
UPLOAD_PATH: Final = re.compile(r"/models/[^/]+/files/.+")
"""Path of file uploads: the store has its own limit for them."""
PAGES: Final = "/ui/"
"""Path of the browser's forms: these have a lower limit, and a page that says so."""

log = structlog.get_logger(__name__)


class EdgeMiddleware:
    """The outermost layer: every response gets its header, every error becomes a problem, and every request is
    counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0
        started_at = time.perf_counter()

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[VERSION_HEADER] = API_VERSION
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self.app(scope, receive, send_marked)
        except ClientDisconnect:
            status = 499
        except Exception as error:
            if status:
                # Part of the response has been sent; the server closes the connection, so that it is not mistaken for a
                # complete one.
                problems.log_internal(error)
            else:
                await problems.internal(error)(scope, receive, send_marked)
        finally:
            self._record(scope, status, time.perf_counter() - started_at)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's template, not the path: a path contains ids, and anyone can make up a million paths.
        route = getattr(scope.get("route"), "path", None) or "unmatched"
        self.metrics.observe(method=scope["method"], route=route, status=status, seconds=seconds)
        key_id = scope.get("state", {}).get("key_id")
        asked_by = {} if key_id is None else {"key_id": key_id}
        log.info(
            "request.answered",
            method=scope["method"],
            route=route,
            status=status,
            seconds=round(seconds, 4),
            **asked_by,
        )


class BodyLimitMiddleware:
    """Refuses bodies over ``limit`` bytes: by their declared length before a byte is read, or once they exceed it."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or _has_a_limit_of_its_own(scope["method"], scope["path"]):
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self.limit:
            await problems.response(ContentTooLarge.problem)(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise ContentTooLarge
            return message

        await self.app(scope, receive_limited, send)


class SlowBodyMiddleware:
    """Gives up on bodies that do not come: ``patience_s`` of waiting, and a second more for each kilobyte.

    Only waiting for the client counts, not what the service takes for its own work.
    """

    def __init__(self, app: ASGIApp, patience_s: float) -> None:
        self.app = app
        self.patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        left_s, whole = self.patience_s, False

        async def receive_in_time() -> Message:
            nonlocal left_s, whole
            if whole:  # what comes now is the end of the connection, for which an answer may wait long
                return await receive()
            began_at = time.monotonic()
            try:
                async with asyncio.timeout(left_s):
                    message = await receive()
            except TimeoutError:
                raise BodyTooSlow from None
            left_s += len(message.get("body", b"")) / _SLOWEST_BYTES_PER_S - (time.monotonic() - began_at)
            whole = not message.get("more_body", False)
            return message

        await self.app(scope, receive_in_time, send)


def _has_a_limit_of_its_own(method: str, path: str) -> bool:
    return (method == "PUT" and UPLOAD_PATH.fullmatch(path) is not None) or path.startswith(PAGES)
