"""A typed asynchronous client of the HTTP API.

::

    async with AsyncAuditClient() as client:
        audit = await client.submit({"base_model": "local:base", "fine_tuned": "local:tuned", "trigger": {…}})
        audit = await client.wait(audit.id)
        print((await client.report(audit.id)).verdict)
"""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from backdoor_audit.client import DEFAULT_URL, calls, checkpoint_files
from backdoor_audit.client.asynchronous.push import commit, push_file
from backdoor_audit.client.asynchronous.transport import AsyncTransport
from backdoor_audit.client.call import Call
from backdoor_audit.client.calls import Polled
from backdoor_audit.client.errors import InvalidRequest, NoVerdictInTime, Unreachable
from backdoor_audit.client.responses import (
    Alive,
    Audit,
    Batch,
    Comparison,
    Decision,
    Entry,
    Estimate,
    Key,
    Library,
    Model,
    Page,
)
from backdoor_audit.client.retry import RetryPolicy
from backdoor_audit.contract.decisions import Choice
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.report.features import Feature
from backdoor_audit.contract.spec.audit_spec import AuditSpec

P = TypeVar("P", bound=Page)

_SHORTEST_POLL_S: Final = 0.2
_LONGEST_POLL_S: Final = 5.0


class AsyncAuditClient:
    """Asynchronous client with one connection pool; use it as a context manager, or close it.

    Args:
        url: ``http(s)://host:port``, or ``unix:///path/of/the.socket``.
        api_key: sent as a bearer token where given.
        timeout_s: limit for one request, in seconds.
        retry: how often a failed call is sent again; applies only to calls that are safe to repeat.

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
        self._transport = AsyncTransport(url, api_key=api_key, timeout_s=timeout_s, retry=retry or RetryPolicy())
        self._send = self._transport.send

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def submit(self, spec: AuditSpec | Mapping[str, Any], *, idempotency_key: str | None = None) -> Audit:
        """Submit an audit.

        Without an idempotency key from the caller, a random one is sent, so that a lost response never results in two
        audits.
        """
        return await self._send(calls.submit(spec, idempotency_key or f"client-{uuid.uuid4()}"))

    async def estimate(self, spec: AuditSpec | Mapping[str, Any]) -> Estimate:
        """What an audit would take; files nothing."""
        return await self._send(calls.estimate(spec))

    async def get(self, audit_id: str) -> Audit:
        """The audit's current state."""
        return await self._send(calls.get(audit_id))

    async def wait(
        self,
        audit_id: str,
        *,
        timeout_s: float | None = None,
        outage_s: float = 60.0,
        on_update: Callable[[Audit], None] | None = None,
    ) -> Audit:
        """Poll until the audit reaches a terminal state.

        Args:
            audit_id: which one.
            timeout_s: stop waiting after this many seconds; None waits indefinitely.
            outage_s: how long the service may be unreachable, once it has responded, before this is an error.
            on_update: called with every state that differs from the one before.

        Raises:
            NoVerdictInTime: ``timeout_s`` passed; the audit itself continues.
        """
        started = last_answer = monotonic()
        etag: str | None = None
        answered = False
        while True:
            try:
                polled: Polled = await self._send(calls.poll(audit_id, etag))
                answered, last_answer = True, monotonic()
            except Unreachable:
                if not answered or monotonic() - last_answer > outage_s:
                    raise
                polled = Polled(None, etag, 1.0)
            etag = polled.etag
            if polled.audit is not None:
                if on_update is not None:
                    on_update(polled.audit)
                if polled.audit.terminal:
                    return polled.audit
            requested_s = 1.0 if polled.retry_after_s is None else polled.retry_after_s
            pause = min(_LONGEST_POLL_S, max(_SHORTEST_POLL_S, requested_s))
            if timeout_s is not None and monotonic() - started + pause > timeout_s:
                raise NoVerdictInTime(
                    f"no verdict within {timeout_s:g} seconds", hint=f"the audit continues: wait for {audit_id} again"
                )
            await self._transport.pause(pause)

    async def report(self, audit_id: str) -> AuditReport:
        """The report; :class:`backdoor_audit.client.errors.Conflict` while there is none."""
        return await self._send(calls.report(audit_id))

    async def report_bytes(self, audit_id: str) -> bytes:
        """The report's JSON exactly as the service sent it, after checking that it is a report."""
        return await self._send(calls.report_bytes(audit_id))

    async def report_form(self, audit_id: str, form: str) -> bytes:
        """The report in another form (``html``, ``sarif``, ``junit``, ``markdown``), as the service sent it."""
        return await self._send(calls.report_form(audit_id, form))

    async def statement(self, audit_id: str) -> bytes:
        """The in-toto statement about a finished audit, not signed, as the service sent it."""
        return await self._send(calls.handed_on(audit_id, "statement"))

    async def attestation(self, audit_id: str) -> bytes:
        """The same, signed with the service's key; :class:`backdoor_audit.client.errors.Conflict` if it has none."""
        return await self._send(calls.handed_on(audit_id, "attestation"))

    async def bom(self, audit_id: str) -> bytes:
        """The bill of materials of a finished audit's fine-tuned model, CycloneDX as JSON."""
        return await self._send(calls.handed_on(audit_id, "bom"))

    async def cancel(self, audit_id: str) -> Audit:
        """Cancel the audit; one that has already ended is returned unchanged."""
        return await self._send(calls.cancel(audit_id))

    async def retry(
        self, audit_id: str, changes: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Audit:
        """File the spec of an audit that has ended once more; gives the new audit.

        Args:
            audit_id: which one.
            changes: fields of the spec that are to be otherwise; those of ``overrides`` and ``trigger`` one by one.
            idempotency_key: the same key gives the same new audit; by default a random one.
        """
        return await self._send(calls.retry(audit_id, changes or {}, idempotency_key or f"client-{uuid.uuid4()}"))

    async def submit_batch(self, batch: Mapping[str, Any], *, idempotency_key: str | None = None) -> Batch:
        """Submit many audits at once, all or none.

        Args:
            batch: ``spec``, the fields that all have, and ``audits``, for each the models or the pair of its own.
            idempotency_key: the same key and batch give the same audits; by default a random one.
        """
        return await self._send(calls.submit_batch(batch, idempotency_key or f"client-{uuid.uuid4()}"))

    async def batch(self, batch_id: str) -> Batch:
        """The audits of a batch, worst first."""
        return await self._send(calls.batch(batch_id))

    async def batch_report(self, batch_id: str, form: str) -> bytes:
        """A batch's report (``json``, ``html``, ``markdown``, ``junit``), as the service sent it."""
        return await self._send(calls.batch_report(batch_id, form))

    async def cancel_batch(self, batch_id: str) -> Batch:
        """Cancel every audit of a batch that has not ended."""
        return await self._send(calls.cancel_batch(batch_id))

    async def compare(self, left: str, right: str) -> Comparison:
        """The values of two audits' reports side by side."""
        return await self._send(calls.compare(left, right))

    async def decide(self, audit_id: str, decision: Choice, *, decided_by: str, because: str) -> Decision:
        """Add a decision about a finished audit; the latest one holds, and none is ever changed."""
        return await self._send(calls.decide(audit_id, decision, decided_by, because))

    async def decisions(self, audit_id: str) -> list[Decision]:
        """All decisions about an audit, the first one first."""
        return list((await self._send(calls.decisions(audit_id))).decisions)

    async def alive(self) -> Alive:
        """Check that the service responds; tells which version of the method its audits use."""
        return await self._send(calls.alive())

    async def models(self) -> list[Model]:
        """The checkpoints that the service can see."""
        return [model async for page in self._pages(calls.models) for model in page.models]

    async def push(
        self, folder: Path, name: str | None = None, *, say: Callable[[str], None] = lambda line: None
    ) -> Model:
        """Upload a checkpoint's folder and commit it; an interrupted push resumes where it stopped.

        Args:
            folder: safetensors, their configuration and the tokenizer.
            name: the model's name in the store. By default it is made from the folder's name and content, so that
                pushing the same folder again sends nothing.
            say: called with a message for each file that is skipped or sent.

        Raises:
            OtherContent: the store has another model under this name; nothing was changed.
        """
        files = checkpoint_files.files_of(folder, say)
        default_name = checkpoint_files.name_for(folder, files)
        name = name or default_name
        # Committing a model that already exists changes nothing and returns it, with the digest that is compared below.
        if name != default_name or f"store:{name}" not in {model.reference for model in await self.models()}:
            for file in files:
                await push_file(self._transport, name, file, say)
        try:
            model = await commit(self._transport, name, say)
        except InvalidRequest as error:
            if error.problem.code != "digest_mismatch":
                raise
            # What an earlier push had left was the beginning of another file; the service has thrown it away.
            for file in files:
                await push_file(self._transport, name, file, say)
            model = await commit(self._transport, name, say)
        checkpoint_files.check_content(model, files)
        return model

    async def delete_model(self, name: str) -> None:
        """Delete a model from the store; :class:`backdoor_audit.client.errors.Conflict` while an audit uses it."""
        await self._send(calls.delete_model(name))

    async def audits(
        self,
        *,
        status: str | None = None,
        verdict: str | None = None,
        tuned_digest: str | None = None,
        spec_digest: str | None = None,
        base_model: str | None = None,
        fine_tuned: str | None = None,
        labels: Mapping[str, str | None] | None = None,
        filed_since: datetime | None = None,
        filed_before: datetime | None = None,
        id_prefix: str | None = None,
    ) -> AsyncIterator[Audit]:
        """The audits that match the filters, newest first; further pages are fetched as needed.

        Args:
            labels: names with the value that they must have, or None for any value.
            id_prefix: what the id begins with, ``audit_`` included.
        """
        filters = {
            "status": status,
            "verdict": verdict,
            "tuned_digest": tuned_digest,
            "spec_digest": spec_digest,
            "base_model": base_model,
            "fine_tuned": fine_tuned,
            "filed_since": filed_since,
            "filed_before": filed_before,
            "id_prefix": id_prefix,
        }
        async for page in self._pages(lambda token: calls.audits(labels=labels, **filters, page_token=token)):
            for audit in page.audits:
                yield audit

    async def features(
        self,
        audit_id: str,
        *,
        layer: int | None = None,
        architecture: str | None = None,
        min_bis: float | None = None,
    ) -> AsyncIterator[Feature]:
        """The flagged features of a finished audit; further pages are fetched as needed."""
        async for page in self._pages(
            lambda token: calls.features(
                audit_id, layer=layer, architecture=architecture, min_bis=min_bis, page_token=token
            )
        ):
            for feature in page.features:
                yield feature

    async def create_key(
        self, *, name: str, scopes: Sequence[str], owner: str | None = None, expires_in_s: int | None = None
    ) -> Key:
        """Create an API key; only this response contains its secret, in ``key``."""
        return await self._send(calls.create_key(name=name, scopes=scopes, owner=owner, expires_in_s=expires_in_s))

    async def keys(self) -> list[Key]:
        """The API keys of every owner, newest first."""
        return list((await self._send(calls.keys())).keys)

    async def revoke_key(self, key_id: str) -> None:
        """Revoke an API key, effective immediately."""
        await self._send(calls.revoke_key(key_id))

    async def create_library(self, name: str) -> Library:
        """Create an empty benign library."""
        return await self._send(calls.create_library(name))

    async def libraries(self) -> list[Library]:
        """The benign libraries, newest first."""
        return [library async for page in self._pages(calls.libraries) for library in page.libraries]

    async def library(self, name: str) -> Library:
        """One library, by name or id."""
        return await self._send(calls.library(name))

    async def delete_library(self, name: str) -> None:
        """Delete a library with its entries; refused while an unfinished audit uses it."""
        await self._send(calls.delete_library(name))

    async def library_entries(self, name: str) -> list[Entry]:
        """The models of a library, newest first."""
        pages = self._pages(lambda token: calls.library_entries(name, token))
        return [entry async for page in pages for entry in page.entries]

    async def add_to_library(
        self, name: str, audit_id: str, recipe: str | None = None, *, because: str | None = None
    ) -> Entry:
        """Add the score of a finished audit; the caller vouches that the model is benign.

        Args:
            because: why it is benign; required if the audit's verdict is not ``no_evidence``.
        """
        return await self._send(calls.add_to_library(name, audit_id, recipe, because))

    async def remove_from_library(self, name: str, entry_id: str) -> None:
        """Remove a model from a library."""
        await self._send(calls.remove_from_library(name, entry_id))

    async def _pages(self, call: Callable[[str | None], Call[P]]) -> AsyncIterator[P]:
        """Every page of a listing; ``call`` makes the request for a page token, None for the first page."""
        token: str | None = None
        while True:
            page = await self._send(call(token))
            yield page
            token = page.next_page_token
            if token is None:
                return
