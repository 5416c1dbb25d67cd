"""The asynchronous client: the same plans as the blocking one, run in an event loop.

::

    async with AsyncAuditClient() as client:
        audit = await client.submit({"base_model": "local:base", "fine_tuned": "local:tuned", "trigger": {…}})
        audit = await client.wait(audit.id)
        print((await client.report(audit.id)).verdict)
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
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


class AsyncAuditClient:
    """Like ``backdoor_audit.AuditClient``, with the same arguments, results and errors; each method is awaited."""

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
        self._http = httpx.AsyncClient(
            base_url=place.base,
            transport=httpx.AsyncHTTPTransport(uds=place.socket) if place.direct else None,
            **connection.options(api_key, timeout_s),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def submit(self, spec: AuditSpec | Mapping[str, Any], *, idempotency_key: str | None = None) -> Audit:
        """File an audit; a random key is sent where none is given."""
        return await self._send(calls.submit(spec, idempotency_key or f"client-{uuid.uuid4()}"))

    async def get(self, audit_id: str) -> Audit:
        """The audit as it stands."""
        return await self._send(calls.get(audit_id))

    async def wait(
        self,
        audit_id: str,
        *,
        timeout_s: float | None = None,
        outage_s: float = 60.0,
        on_update: Callable[[Audit], None] | None = None,
    ) -> Audit:
        """Poll until the audit is in a terminal state; as ``AuditClient.wait``."""
        return await self._run(
            plans.wait(audit_id, self._retry, timeout_s=timeout_s, outage_s=outage_s, on_update=on_update)
        )

    async def report(self, audit_id: str) -> AuditReport:
        """The report; :class:`backdoor_audit.client.errors.Conflict` while there is none."""
        return await self._send(calls.report(audit_id))

    async def report_form(self, audit_id: str, form: str) -> bytes:
        """The report in another form (``html``, ``sarif``, ``junit``, ``markdown``), as the service sent it."""
        return await self._send(calls.report_form(audit_id, form))

    async def cancel(self, audit_id: str) -> Audit:
        """Ask the audit to stop; unchanged where it has already ended."""
        return await self._send(calls.cancel(audit_id))

    async def alive(self) -> Alive:
        """That the service answers, and which version of the method its audits compute."""
        return await self._send(calls.alive())

    async def models(self) -> list[Model]:
        """The checkpoints that the service can see."""
        return await self._run(plans.models(self._retry))

    async def push(
        self, folder: Path, name: str | None = None, *, say: Callable[[str], None] = lambda line: None
    ) -> Model:
        """Upload a checkpoint's folder and commit it; as ``AuditClient.push``."""
        return await self._run(plans.push(folder, name, self._retry, say))

    async def delete_model(self, name: str) -> None:
        """Delete a model of the store; :class:`backdoor_audit.client.errors.Conflict` while an audit uses it."""
        await self._send(calls.delete_model(name))

    async def audits(
        self,
        *,
        status: str | None = None,
        verdict: str | None = None,
        tuned_digest: str | None = None,
        spec_digest: str | None = None,
    ) -> AsyncIterator[Audit]:
        """The audits that fit the filters, newest first, page after page."""
        token: str | None = None
        while True:
            page = await self._send(
                calls.audits(
                    status=status,
                    verdict=verdict,
                    tuned_digest=tuned_digest,
                    spec_digest=spec_digest,
                    page_token=token,
                )
            )
            for audit in page.audits:
                yield audit
            token = page.next_page_token
            if token is None:
                return

    async def features(
        self,
        audit_id: str,
        *,
        layer: int | None = None,
        architecture: str | None = None,
        min_bis: float | None = None,
    ) -> AsyncIterator[Feature]:
        """The flagged features of a finished audit, page after page."""
        token: str | None = None
        while True:
            page = await self._send(
                calls.features(audit_id, layer=layer, architecture=architecture, min_bis=min_bis, page_token=token)
            )
            for feature in page.features:
                yield feature
            token = page.next_page_token
            if token is None:
                return

    async def create_key(
        self, *, name: str, scopes: Sequence[str], owner: str | None = None, expires_in_s: int | None = None
    ) -> Key:
        """Make an API key; its text is in ``key`` of this answer alone."""
        return await self._send(calls.create_key(name=name, scopes=scopes, owner=owner, expires_in_s=expires_in_s))

    async def keys(self) -> list[Key]:
        """The API keys of every owner, newest first."""
        return list((await self._send(calls.keys())).keys)

    async def revoke_key(self, key_id: str) -> None:
        """End an API key now."""
        await self._send(calls.revoke_key(key_id))

    async def create_library(self, name: str) -> Library:
        """Make an empty benign library."""
        return await self._send(calls.create_library(name))

    async def libraries(self) -> list[Library]:
        """The benign libraries, newest first."""
        return await self._run(plans.libraries(self._retry))

    async def library(self, name: str) -> Library:
        """One library, by name or id."""
        return await self._send(calls.library(name))

    async def delete_library(self, name: str) -> None:
        """Delete a library with its entries; refused while an audit that has not ended compares with it."""
        await self._send(calls.delete_library(name))

    async def library_entries(self, name: str) -> list[Entry]:
        """The models of a library, newest first."""
        return await self._run(plans.library_entries(name, self._retry))

    async def add_to_library(self, name: str, audit_id: str, recipe: str | None = None) -> Entry:
        """Add the score of a finished audit. It is the caller's word that the model is benign."""
        return await self._send(calls.add_to_library(name, audit_id, recipe))

    async def remove_from_library(self, name: str, entry_id: str) -> None:
        """Take a model out of a library."""
        await self._send(calls.remove_from_library(name, entry_id))

    async def _send(self, call: Call[T]) -> T:
        return await self._run(plans.send(call, self._retry))

    async def _run(self, plan: Plan[T]) -> T:
        """Carry out a plan."""
        try:
            step = next(plan)
            while True:
                if isinstance(step, plans.Pause):
                    await asyncio.sleep(step.seconds)
                    step = plan.send(None)
                    continue
                try:
                    with connection.translated(self.url):
                        response = await self._http.request(**connection.request(step.call))
                    answer = connection.received(self.url, response)
                except ClientError as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result
