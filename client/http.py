"""A small typed client of the HTTP API.

::

    with AuditClient() as client:
        audit = client.submit({"base_model": "local:base", "fine_tuned": "local:tuned", "trigger": {…}})
        audit = client.wait(audit.id)
        print(client.report(audit.id).verdict)
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from audit.report import AuditReport, Feature
from audit.spec import AuditSpec
from client import calls
from client.calls import Call, Polled, Received, RetryPolicy
from client.errors import ClientError, NoVerdictInTime, UnexpectedAnswer, Unreachable, WrongUsage
from client.schemas import Audit, Model

T = TypeVar("T")

DEFAULT_URL: Final = "http://127.0.0.1:8321"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_SHORTEST_POLL_S: Final = 0.2
_LONGEST_POLL_S: Final = 5.0


class AuditClient:
    """Blocking client; one connection pool, to be closed (or used as a context manager).

    Args:
        url: ``http(s)://host:port``, or ``unix:///path/of/the.socket``.
        api_key: sent as a bearer token where given.
        timeout_s: seconds that one request may take.
        retry: what is sent again; only calls that may be sent twice are.

    Every method raises a :class:`client.errors.ClientError`.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.url = url
        self._retry = retry or RetryPolicy()
        headers = {"Accept": "application/json", "User-Agent": "backdoor-audit-client"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        base, transport = _transport(url)
        self._http = httpx.Client(
            base_url=base,
            transport=transport,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=min(5.0, timeout_s)),
            follow_redirects=False,  # a redirect would carry the key elsewhere
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(self, spec: AuditSpec | Mapping[str, Any], *, idempotency_key: str | None = None) -> Audit:
        """File an audit.

        Without a key of the caller's own a random one is sent, so that an answer that got lost on the way does not
        leave two audits behind.
        """
        return self._send(calls.submit(spec, idempotency_key or f"client-{uuid.uuid4()}"))

    def get(self, audit_id: str) -> Audit:
        """The audit as it stands."""
        return self._send(calls.get(audit_id))

    def wait(
        self,
        audit_id: str,
        *,
        timeout_s: float | None = None,
        outage_s: float = 60.0,
        on_update: Callable[[Audit], None] | None = None,
    ) -> Audit:
        """Poll until the audit is in a terminal state.

        Args:
            audit_id: which one.
            timeout_s: give up after so many seconds; None waits for as long as it takes.
            outage_s: how long the service may be away, once it has answered, before that is an error.
            on_update: called with every state that differs from the one before.

        Raises:
            NoVerdictInTime: ``timeout_s`` passed; the audit goes on.
        """
        started = last_answer = time.monotonic()
        etag: str | None = None
        answered = False
        while True:
            try:
                polled: Polled = self._send(calls.poll(audit_id, etag))
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
            pause = min(
                _LONGEST_POLL_S, max(_SHORTEST_POLL_S, 1.0 if polled.retry_after_s is None else polled.retry_after_s)
            )
            if timeout_s is not None and time.monotonic() - started + pause > timeout_s:
                raise NoVerdictInTime(
                    f"no verdict within {timeout_s:g} seconds", hint=f"the audit goes on: wait for {audit_id} again"
                )
            time.sleep(pause)

    def report(self, audit_id: str) -> AuditReport:
        """The report; :class:`client.errors.Conflict` while there is none."""
        return self._send(calls.report(audit_id))

    def report_bytes(self, audit_id: str) -> bytes:
        """The report's JSON exactly as the service sent it, checked to be a report."""
        return self._send(calls.report_bytes(audit_id))

    def report_form(self, audit_id: str, form: str) -> bytes:
        """The report in another form (``html``, ``sarif``, ``junit``, ``markdown``), as the service sent it."""
        return self._send(calls.report_form(audit_id, form))

    def cancel(self, audit_id: str) -> Audit:
        """Ask the audit to stop; unchanged where it has already ended."""
        return self._send(calls.cancel(audit_id))

    def models(self) -> list[Model]:
        """The checkpoints that the service can see."""
        found: list[Model] = []
        token: str | None = None
        while True:
            page = self._send(calls.models(token))
            found.extend(page.models)
            token = page.next_page_token
            if token is None:
                return found

    def features(
        self,
        audit_id: str,
        *,
        layer: int | None = None,
        architecture: str | None = None,
        min_bis: float | None = None,
    ) -> Iterator[Feature]:
        """The flagged features of a finished audit, page after page."""
        token: str | None = None
        while True:
            page = self._send(
                calls.features(audit_id, layer=layer, architecture=architecture, min_bis=min_bis, page_token=token)
            )
            yield from page.features
            token = page.next_page_token
            if token is None:
                return

    def _send(self, call: Call[T]) -> T:
        """Execute a call, again where the policy says so."""
        attempt = 1
        while True:
            asked_s: float | None = None
            try:
                received = self._once(call)
                asked_s = received.retry_after_s()
                return call.finish(received)
            except ClientError as error:
                delay = self._retry.delay_s(call, attempt, error, asked_s)
                if delay is None:
                    raise
            time.sleep(delay)
            attempt += 1

    def _once(self, call: Call[Any]) -> Received:
        """One request, with the foreign library's errors translated."""
        try:
            response = self._http.request(
                call.method,
                call.path,
                params=dict(call.params) or None,
                headers=dict(call.headers),
                content=call.body,
            )
        except httpx.TransportError as error:
            raise Unreachable(
                f"no answer from {self.url} ({type(error).__name__})",
                hint="is it running? start one with: backdoor-audit serve",
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise UnexpectedAnswer(f"the answer of {self.url} could not be read ({type(error).__name__})") from error
        if 300 <= response.status_code < 400 and response.status_code != 304:
            raise UnexpectedAnswer(f"{self.url} redirects elsewhere", hint="give the address it redirects to")
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Received(response.status_code, headers, response.content)


def _transport(url: str) -> tuple[str, httpx.HTTPTransport | None]:
    """The base address and, where the ordinary transport will not do, another.

    A proxy from the environment is never asked for a service on this very machine.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise WrongUsage(f"not an address: {url}") from error
    if parts.scheme == "unix" and parts.path:
        return "http://localhost", httpx.HTTPTransport(uds=parts.path)
    if parts.scheme not in ("http", "https") or not host:
        raise WrongUsage(f"not an address: {url}", hint="http://host:port, https://host, or unix:///path/of/the.socket")
    if parts.username or parts.password:
        raise WrongUsage("an address with a password in it", hint="set BACKDOOR_AUDIT_API_KEY instead")
    return url.rstrip("/"), httpx.HTTPTransport() if host in _LOOPBACK else None
