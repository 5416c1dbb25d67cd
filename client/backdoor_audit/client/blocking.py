"""A small typed client of the HTTP API.

::

    with AuditClient() as client:
        audit = client.submit({"base_model": "local:base", "fine_tuned": "local:tuned", "trigger": {…}})
        audit = client.wait(audit.id)
        print(client.report(audit.id).verdict)
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from backdoor_audit.client import calls, connection, plans
from backdoor_audit.client.calls import Call, RetryPolicy
from backdoor_audit.client.connection import DEFAULT_URL
from backdoor_audit.client.errors import ClientError
from backdoor_audit.client.plans import Plan
from backdoor_audit.client.responses import Alive, Audit, Entry, Key, Library, Model
from backdoor_audit.contract.report import AuditReport, Feature
from backdoor_audit.contract.spec import AuditSpec

T = TypeVar("T")


class AuditClient:
    """Blocking client; one connection pool, to be closed (or used as a context manager).

    Args:
        url: ``http(s)://host:port``, or ``unix:///path/of/the.socket``.
        api_key: sent as a bearer token where given.
        timeout_s: seconds that one request may take.
        retry: what is sent again; only calls that may be sent twice are.

    Every method raises a :class:`backdoor_audit.client.errors.ClientError`.
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
        place = connection.address(url)
        self._http = httpx.Client(
            base_url=place.base,
            transport=httpx.HTTPTransport(uds=place.socket) if place.direct else None,
            **connection.options(api_key, timeout_s),
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
        return self._run(plans.wait(audit_id, self._retry, timeout_s=timeout_s, outage_s=outage_s, on_update=on_update))

    def report(self, audit_id: str) -> AuditReport:
        """The report; :class:`backdoor_audit.client.errors.Conflict` while there is none."""
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

    def alive(self) -> Alive:
        """That the service answers, and which version of the method its audits compute."""
        return self._send(calls.alive())

    def models(self) -> list[Model]:
        """The checkpoints that the service can see."""
        return self._run(plans.models(self._retry))

    def push(self, folder: Path, name: str | None = None, *, say: Callable[[str], None] = lambda line: None) -> Model:
        """Upload a checkpoint's folder and commit it; goes on where an earlier push broke off.

        Args:
            folder: safetensors, their configuration and the tokenizer.
            name: the model's name in the store; made from the folder's name and content where it is left out, so that
                pushing the same again sends nothing.
            say: told what is left out and what is sent.
        """
        return self._run(plans.push(folder, name, self._retry, say))

    def delete_model(self, name: str) -> None:
        """Delete a model of the store; :class:`backdoor_audit.client.errors.Conflict` while an audit uses it."""
        self._send(calls.delete_model(name))

    def audits(
        self,
        *,
        status: str | None = None,
        verdict: str | None = None,
        tuned_digest: str | None = None,
        spec_digest: str | None = None,
    ) -> Iterator[Audit]:
        """The audits that fit the filters, newest first, page after page."""
        token: str | None = None
        while True:
            page = self._send(
                calls.audits(
                    status=status,
                    verdict=verdict,
                    tuned_digest=tuned_digest,
                    spec_digest=spec_digest,
                    page_token=token,
                )
            )
            yield from page.audits
            token = page.next_page_token
            if token is None:
                return

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

    def create_key(
        self, *, name: str, scopes: Sequence[str], owner: str | None = None, expires_in_s: int | None = None
    ) -> Key:
        """Make an API key; its text is in ``key`` of this answer alone."""
        return self._send(calls.create_key(name=name, scopes=scopes, owner=owner, expires_in_s=expires_in_s))

    def keys(self) -> list[Key]:
        """The API keys of every owner, newest first."""
        return list(self._send(calls.keys()).keys)

    def revoke_key(self, key_id: str) -> None:
        """End an API key now."""
        self._send(calls.revoke_key(key_id))

    def create_library(self, name: str) -> Library:
        """Make an empty benign library."""
        return self._send(calls.create_library(name))

    def libraries(self) -> list[Library]:
        """The benign libraries, newest first."""
        return self._run(plans.libraries(self._retry))

    def library(self, name: str) -> Library:
        """One library, by name or id."""
        return self._send(calls.library(name))

    def delete_library(self, name: str) -> None:
        """Delete a library with its entries; refused while an audit that has not ended compares with it."""
        self._send(calls.delete_library(name))

    def library_entries(self, name: str) -> list[Entry]:
        """The models of a library, newest first."""
        return self._run(plans.library_entries(name, self._retry))

    def add_to_library(self, name: str, audit_id: str, recipe: str | None = None) -> Entry:
        """Add the score of a finished audit. It is the caller's word that the model is benign."""
        return self._send(calls.add_to_library(name, audit_id, recipe))

    def remove_from_library(self, name: str, entry_id: str) -> None:
        """Take a model out of a library."""
        self._send(calls.remove_from_library(name, entry_id))

    def _send(self, call: Call[T]) -> T:
        return self._run(plans.send(call, self._retry))

    def _run(self, plan: Plan[T]) -> T:
        """Carry out a plan."""
        try:
            step = next(plan)
            while True:
                if isinstance(step, plans.Pause):
                    time.sleep(step.seconds)
                    step = plan.send(None)
                    continue
                try:
                    with connection.translated(self.url):
                        response = self._http.request(**connection.request(step.call))
                    answer = connection.received(self.url, response)
                except ClientError as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result
