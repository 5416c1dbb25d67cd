"""What a client does, step by step, without doing it: which request comes next, and how long to pause before it.

A plan is a generator. It yields a :class:`Request` and is sent what was received (or thrown what went wrong), yields a
:class:`Pause` and is resumed afterwards, and returns the result. The blocking client and the asynchronous one run the
same plans; neither holds any logic of its own.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from client import calls
from client.calls import Call, Polled, Received, RetryPolicy
from client.errors import ClientError, NoVerdictInTime, Unreachable
from client.schemas import Audit, Model

T = TypeVar("T")

_SHORTEST_POLL_S: Final = 0.2
_LONGEST_POLL_S: Final = 5.0


@dataclass(frozen=True)
class Request:
    """Send this; answer the plan with what was received."""

    call: Call[Any]


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


Plan = Generator[Request | Pause, Received | None, T]


def send(call: Call[T], retry: RetryPolicy) -> Plan[T]:
    """Execute a call, again where the policy says so."""
    attempt = 1
    while True:
        asked_s: float | None = None
        try:
            received = yield Request(call)
            assert received is not None
            asked_s = received.retry_after_s()
            return call.finish(received)
        except ClientError as error:
            delay = retry.delay_s(call, attempt, error, asked_s)
            if delay is None:
                raise
        yield Pause(delay)
        attempt += 1


def wait(
    audit_id: str,
    retry: RetryPolicy,
    *,
    timeout_s: float | None,
    outage_s: float,
    on_update: Callable[[Audit], None] | None,
) -> Plan[Audit]:
    """Poll until the audit is in a terminal state; the arguments are those of ``AuditClient.wait``."""
    started = last_answer = time.monotonic()
    etag: str | None = None
    answered = False
    while True:
        try:
            polled: Polled = yield from send(calls.poll(audit_id, etag), retry)
            answered, last_answer = True, time.monotonic()
        except Unreachable:
            if not answered or time.monotonic() - last_answer > outage_s:
                raise
            polled = Polled(None, etag, 1.0)
        etag = polled.etag
        if polled.audit is not None:
            if on_update is not None:
                on_update(polled.audit)
            if polled.audit.terminal:
                return polled.audit
        asked_s = 1.0 if polled.retry_after_s is None else polled.retry_after_s
        pause = min(_LONGEST_POLL_S, max(_SHORTEST_POLL_S, asked_s))
        if timeout_s is not None and time.monotonic() - started + pause > timeout_s:
            raise NoVerdictInTime(
                f"no verdict within {timeout_s:g} seconds", hint=f"the audit goes on: wait for {audit_id} again"
            )
        yield Pause(pause)


def models(retry: RetryPolicy) -> Plan[list[Model]]:
    """All pages of the models."""
    found: list[Model] = []
    token: str | None = None
    while True:
        page = yield from send(calls.models(token), retry)
        found.extend(page.models)
        token = page.next_page_token
        if token is None:
            return found
