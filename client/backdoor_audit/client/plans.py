"""What a client does, step by step, without doing it: which request comes next, and how long to pause before it.

A plan is a generator. It yields a :class:`Request` and is sent what was received (or thrown what went wrong), yields a
:class:`Pause` and is resumed afterwards, and returns the result. The blocking client and the asynchronous one run the
same plans; neither holds any logic of its own.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from backdoor_audit.client import calls, pushing
from backdoor_audit.client.calls import Call, Polled, Received, RetryPolicy, UploadState
from backdoor_audit.client.errors import (
    AnswerError,
    ClientError,
    InvalidRequest,
    NotFound,
    NoVerdictInTime,
    ServiceFault,
    Unreachable,
)
from backdoor_audit.client.pushing import PushedFile
from backdoor_audit.client.responses import Audit, Entry, Library, Model

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


def push(folder: Path, name: str | None, retry: RetryPolicy, say: Callable[[str], None]) -> Plan[Model]:
    """Upload a checkpoint's folder and commit it; the arguments are those of ``AuditClient.push``."""
    files = pushing.files_of(folder, say)
    made = pushing.name_for(folder, files)
    name = name or made
    # Whoever has such a name has this content; committing again changes nothing, and gives what there is.
    known = name == made and any(model.reference == f"store:{name}" for model in (yield from models(retry)))
    if not known:
        for file in files:
            yield from _push_file(name, file, retry, say)
    return (yield from send(calls.commit_model(name), retry))


def _push_file(name: str, file: PushedFile, retry: RetryPolicy, say: Callable[[str], None]) -> Plan[None]:
    """Send what the service does not have of a file, again from where it broke off."""
    for attempt in range(1, retry.attempts + 1):
        try:
            state = yield from _upload_state(name, file, retry)
            if state is None:
                say(f"Left out, because the service does not take it: {file.name}")
                return
            if state.digest == file.digest_header:
                return
            start = state.offset if state.digest is None and state.offset < file.size else 0
            say(f"Sending {file.name}, {file.size} bytes" + (f", from byte {start} on" if start else ""))
            for content_range, content in file.parts(start):
                yield from send(calls.upload_part(name, file.name, content, content_range, file.digest_header), retry)
            return
        except (Unreachable, AnswerError) as error:
            # A digest that differs: the service held the beginning of another file, and has thrown that away.
            passing = isinstance(error, Unreachable | ServiceFault) or (
                isinstance(error, AnswerError) and error.problem.code in ("upload_offset", "digest_mismatch")
            )
            if not passing or attempt == retry.attempts:
                raise
        yield Pause(retry.first_s * 2 ** (attempt - 1))


def _upload_state(name: str, file: PushedFile, retry: RetryPolicy) -> Plan[UploadState | None]:
    """What the service has of a file; None where it takes no such file."""
    try:
        return (yield from send(calls.upload_state(name, file.name), retry))
    except NotFound:
        return UploadState(0, None)
    except InvalidRequest:
        return None


def libraries(retry: RetryPolicy) -> Plan[list[Library]]:
    """All pages of the libraries."""
    found: list[Library] = []
    token: str | None = None
    while True:
        page = yield from send(calls.libraries(token), retry)
        found.extend(page.libraries)
        token = page.next_page_token
        if token is None:
            return found


def library_entries(name: str, retry: RetryPolicy) -> Plan[list[Entry]]:
    """All pages of a library's models."""
    found: list[Entry] = []
    token: str | None = None
    while True:
        page = yield from send(calls.library_entries(name, token), retry)
        found.extend(page.entries)
        token = page.next_page_token
        if token is None:
            return found
