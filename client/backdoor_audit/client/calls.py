"""Every call of the API, as a function from its arguments to a :class:`backdoor_audit.client.call.Call`."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from backdoor_audit.client.call import Call, Received
from backdoor_audit.client.errors import UnexpectedAnswer, WrongUsage
from backdoor_audit.client.headers import header_value
from backdoor_audit.client.responses import (
    Alive,
    Audit,
    AuditPage,
    Batch,
    Comparison,
    Decision,
    DecisionListing,
    Entry,
    EntryPage,
    Estimate,
    FeaturePage,
    Key,
    KeyPage,
    Library,
    LibraryPage,
    Model,
    ModelPage,
)
from backdoor_audit.contract.ids import LIBRARY_REFERENCE
from backdoor_audit.contract.report.audit_report import SCHEMA_VERSION, AuditReport
from backdoor_audit.contract.spec.audit_spec import AuditSpec

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Polled:
    """One poll of an audit; ``audit`` is None if nothing changed since ``etag``."""

    audit: Audit | None
    etag: str | None
    retry_after_s: float | None


def submit(spec: AuditSpec | Mapping[str, Any], idempotency_key: str | None) -> Call[Audit]:
    """``POST /audits``; repeatable only with an idempotency key."""
    headers = {"Content-Type": "application/json"}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = header_value(idempotency_key, "the idempotency key (--idempotency-key)")
    return Call(
        "POST",
        "/audits",
        _reader(Audit),
        headers=headers,
        body=_body(spec),
        repeatable=idempotency_key is not None,
    )


def _body(spec: AuditSpec | Mapping[str, Any]) -> bytes:
    document = spec.model_dump(mode="json", exclude_unset=True) if isinstance(spec, AuditSpec) else dict(spec)
    return json.dumps(document, ensure_ascii=False).encode()


def get(audit_id: str) -> Call[Audit]:
    """``GET /audits/{id}``."""
    return Call("GET", _audit_path(audit_id), _reader(Audit))


def poll(audit_id: str, etag: str | None) -> Call[Polled]:
    """``GET /audits/{id}``, answered with 304 while nothing has changed since ``etag``."""

    def read(received: Received) -> Polled:
        audit = None if received.status == 304 else _read(Audit, received)
        return Polled(audit, received.headers.get("etag", etag), received.retry_after_s())

    return Call("GET", _audit_path(audit_id), read, headers={"If-None-Match": etag} if etag else {})


def report(audit_id: str) -> Call[AuditReport]:
    """``GET /audits/{id}/report`` as a typed report."""
    return Call("GET", f"{_audit_path(audit_id)}/report", _read_report, headers={"Accept": "application/json"})


def report_bytes(audit_id: str) -> Call[bytes]:
    """``GET /audits/{id}/report``, the JSON exactly as the service sent it."""

    def read(received: Received) -> bytes:
        _read_report(received)
        return received.body

    return Call("GET", f"{_audit_path(audit_id)}/report", read, headers={"Accept": "application/json"})


def report_form(audit_id: str, form: str) -> Call[bytes]:
    """``GET /audits/{id}/report?format=…``, exactly as the service sent it."""

    def read(received: Received) -> bytes:
        if not received.body:
            raise UnexpectedAnswer("the report is empty", hint="is this the address of a Backdoor Audit service?")
        return received.body

    return Call("GET", f"{_audit_path(audit_id)}/report", read, params={"format": form}, headers={"Accept": "*/*"})


def handed_on(audit_id: str, what: str) -> Call[bytes]:
    """``GET /audits/{id}/statement``, ``attestation`` or ``bom``, exactly as the service sent it."""

    def read(received: Received) -> bytes:
        try:
            if isinstance(json.loads(received.body), dict):
                return received.body
        except ValueError:
            pass
        raise UnexpectedAnswer("the answer is no JSON object", hint="is this the address of a Backdoor Audit service?")

    return Call("GET", f"{_audit_path(audit_id)}/{what}", read, headers={"Accept": "*/*"})


def cancel(audit_id: str) -> Call[Audit]:
    """``POST /audits/{id}/cancel``; a second cancel changes nothing, so it is repeatable."""
    return Call("POST", f"{_audit_path(audit_id)}/cancel", _reader(Audit))


def estimate(spec: AuditSpec | Mapping[str, Any]) -> Call[Estimate]:
    """``POST /audits?dry_run=true``; files nothing, so it is repeatable."""
    return Call(
        "POST",
        "/audits",
        _reader(Estimate),
        params={"dry_run": "true"},
        headers={"Content-Type": "application/json"},
        body=_body(spec),
    )


def retry(audit_id: str, changes: Mapping[str, Any], idempotency_key: str) -> Call[Audit]:
    """``POST /audits/{id}/retry``."""
    headers = {"Idempotency-Key": header_value(idempotency_key, "the idempotency key")}
    headers["Content-Type"] = "application/json"
    body = json.dumps({"changes": dict(changes)}, ensure_ascii=False).encode()
    return Call("POST", f"{_audit_path(audit_id)}/retry", _reader(Audit), headers=headers, body=body)


def submit_batch(wanted: Mapping[str, Any], idempotency_key: str) -> Call[Batch]:
    """``POST /audits/batch``."""
    headers = {"Content-Type": "application/json"}
    headers["Idempotency-Key"] = header_value(idempotency_key, "the idempotency key (--idempotency-key)")
    body = json.dumps(dict(wanted), ensure_ascii=False).encode()
    return Call("POST", "/audits/batch", _reader(Batch), headers=headers, body=body)


def batch(batch_id: str) -> Call[Batch]:
    """``GET /batches/{id}``."""
    return Call("GET", _batch_path(batch_id), _reader(Batch))


def batch_report(batch_id: str, form: str) -> Call[bytes]:
    """``GET /batches/{id}/report?format=…``, exactly as the service sent it."""
    path = f"{_batch_path(batch_id)}/report"
    return Call("GET", path, lambda received: received.body, params={"format": form}, headers={"Accept": "*/*"})


def cancel_batch(batch_id: str) -> Call[Batch]:
    """``POST /batches/{id}/cancel``; a second cancel changes nothing, so it is repeatable."""
    return Call("POST", f"{_batch_path(batch_id)}/cancel", _reader(Batch))


def _batch_path(batch_id: str) -> str:
    return f"/batches/{_id(batch_id, 'a batch', 'batch_01jd…')}"


def compare(left: str, right: str) -> Call[Comparison]:
    """``GET /comparison``."""
    return Call("GET", "/comparison", _reader(Comparison), params={"left": left, "right": right})


def audits(
    *, labels: Mapping[str, str | None] | None = None, page_token: str | None = None, **filters: object
) -> Call[AuditPage]:
    """``GET /audits``, one page; ``filters`` by the name of the parameter, None for none."""
    wanted = tuple(name if value is None else f"{name}={value}" for name, value in (labels or {}).items())
    params: dict[str, str | tuple[str, ...]] = {**_given(**filters, page_token=page_token)}
    if wanted:
        params["label"] = wanted
    return Call("GET", "/audits", _reader(AuditPage), params=params)


def decide(audit_id: str, decision: str, decided_by: str, because: str) -> Call[Decision]:
    """``POST /audits/{id}/decisions``."""
    wanted = {"decision": decision, "decided_by": decided_by, "because": because}
    return _post(f"{_audit_path(audit_id)}/decisions", wanted, Decision)


def decisions(audit_id: str) -> Call[DecisionListing]:
    """``GET /audits/{id}/decisions``."""
    return Call("GET", f"{_audit_path(audit_id)}/decisions", _reader(DecisionListing))


def alive() -> Call[Alive]:
    """``GET /livez``."""
    return Call("GET", "/livez", _reader(Alive))


def models(page_token: str | None = None) -> Call[ModelPage]:
    """``GET /models``."""
    return Call("GET", "/models", _reader(ModelPage), params=_given(page_token=page_token))


@dataclass(frozen=True)
class UploadState:
    """What the service has of a file; ``digest`` is the header of one whose digest is known, which a commit checks."""

    offset: int
    digest: str | None
    complete: bool = False


@dataclass(frozen=True)
class Commit:
    """The model, or None while the service checks it, and how long it asks to wait then."""

    model: Model | None
    retry_after_s: float | None = None


def upload_state(name: str, path: str) -> Call[UploadState]:
    """``HEAD /models/{name}/files/{path}``."""

    def read(received: Received) -> UploadState:
        offset = received.headers.get("upload-offset", "")
        if not offset.isdecimal():
            raise UnexpectedAnswer("the service does not say how much of the file it has")
        complete = received.headers.get("upload-complete") == "?1"
        return UploadState(int(offset), received.headers.get("repr-digest"), complete)

    return Call("HEAD", _file_path(name, path), read)


def upload_part(name: str, path: str, content: bytes, content_range: str | None, digest: str) -> Call[None]:
    """``PUT /models/{name}/files/{path}``; not repeatable: the upload's state is queried instead."""
    headers = {"Content-Type": "application/octet-stream", "Repr-Digest": digest}
    if content_range is not None:
        headers["Content-Range"] = content_range
    return Call("PUT", _file_path(name, path), lambda received: None, headers=headers, body=content, repeatable=False)


def commit_model(name: str) -> Call[Commit]:
    """``POST /models/{name}/commit``; repeating it changes nothing, and joins one that is under way."""

    def read(received: Received) -> Commit:
        if received.status == 202:
            return Commit(None, received.retry_after_s())
        return Commit(_read(Model, received))

    return Call("POST", f"/models/{quote(name, safe='')}/commit", read)


def delete_model(name: str) -> Call[None]:
    """``DELETE /models/{name}``."""
    return Call("DELETE", f"/models/{quote(name, safe='')}", lambda received: None)


def features(
    audit_id: str,
    *,
    layer: int | None = None,
    architecture: str | None = None,
    min_bis: float | None = None,
    page_token: str | None = None,
) -> Call[FeaturePage]:
    """``GET /audits/{id}/features``, one page."""
    params = _given(layer=layer, architecture=architecture, min_bis=min_bis, page_token=page_token)
    return Call("GET", f"{_audit_path(audit_id)}/features", _reader(FeaturePage), params=params)


def create_key(*, name: str, scopes: Sequence[str], owner: str | None, expires_in_s: int | None) -> Call[Key]:
    """``POST /keys``; not repeatable: the first key would remain, and nobody would have its secret."""
    wanted = {"name": name, "scopes": list(scopes), "owner": owner, "expires_in_s": expires_in_s}
    body = json.dumps({name: value for name, value in wanted.items() if value is not None}).encode()
    return Call(
        "POST", "/keys", _reader(Key), headers={"Content-Type": "application/json"}, body=body, repeatable=False
    )


def keys() -> Call[KeyPage]:
    """``GET /keys``."""
    return Call("GET", "/keys", _reader(KeyPage))


def revoke_key(key_id: str) -> Call[None]:
    """``DELETE /keys/{id}``; a second time changes nothing."""
    return Call("DELETE", f"/keys/{_id(key_id, 'a key', 'key_01jd…')}", lambda received: None)


def create_library(name: str) -> Call[Library]:
    """``POST /libraries``."""
    return _post("/libraries", {"name": name}, Library)


def libraries(page_token: str | None = None) -> Call[LibraryPage]:
    """``GET /libraries``, one page."""
    return Call("GET", "/libraries", _reader(LibraryPage), params=_given(page_token=page_token))


def library(name: str) -> Call[Library]:
    """``GET /libraries/{library}``."""
    return Call("GET", _library_path(name), _reader(Library))


def delete_library(name: str) -> Call[None]:
    """``DELETE /libraries/{library}``."""
    return Call("DELETE", _library_path(name), lambda received: None, repeatable=False)


def library_entries(name: str, page_token: str | None = None) -> Call[EntryPage]:
    """``GET /libraries/{library}/entries``, one page."""
    path = f"{_library_path(name)}/entries"
    return Call("GET", path, _reader(EntryPage), params=_given(page_token=page_token))


def add_to_library(name: str, audit_id: str, recipe: str | None, because: str | None) -> Call[Entry]:
    """``POST /libraries/{library}/entries``."""
    wanted = {"audit_id": _id(audit_id, "an audit", "audit_01jd…"), "recipe": recipe} | _given(because=because)
    return _post(f"{_library_path(name)}/entries", wanted, Entry)


def remove_from_library(name: str, entry_id: str) -> Call[None]:
    """``DELETE /libraries/{library}/entries/{entry_id}``."""
    path = f"{_library_path(name)}/entries/{_id(entry_id, 'an entry', 'entry_01jd…')}"
    return Call("DELETE", path, lambda received: None, repeatable=False)


def _post(path: str, wanted: Mapping[str, object], model: type[M]) -> Call[M]:
    """A call that creates something; not repeatable, because the second attempt would be refused."""
    body = json.dumps({name: value for name, value in wanted.items() if value is not None}).encode()
    headers = {"Content-Type": "application/json"}
    return Call("POST", path, _reader(model), headers=headers, body=body, repeatable=False)


def _library_path(name: str) -> str:
    if re.fullmatch(LIBRARY_REFERENCE, name) is None:
        raise WrongUsage("not the name or id of a library", hint="letters, digits, dots, dashes, underscores")
    return f"/libraries/{name}"


def _audit_path(audit_id: str) -> str:
    return f"/audits/{_id(audit_id, 'an audit', 'audit_01jd…')}"


def _id(given: str, what: str, example: str) -> str:
    if not given or not given.isascii() or not given.replace("_", "").replace("-", "").isalnum():
        raise WrongUsage(f"not the id of {what}", hint=f"an id looks like {example}")
    return given


def _file_path(name: str, path: str) -> str:
    return f"/models/{quote(name, safe='')}/files/{quote(path)}"


def _given(**values: object) -> dict[str, str]:
    """The values as parameters, without those that are None."""
    return {name: _written(value) for name, value in values.items() if value is not None}


def _written(value: object) -> str:
    if isinstance(value, datetime):
        # A moment without a zone is one of this machine's.
        return value.astimezone(UTC).isoformat()
    return str(value)


def _reader(model: type[M]) -> Callable[[Received], M]:
    return lambda received: _read(model, received)


def _read(model: type[M], received: Received, *, extra: Any = None) -> M:
    try:
        return model.model_validate_json(received.body, extra=extra)
    except ValidationError as error:
        raise UnexpectedAnswer(
            f"the answer does not have the expected form ({error.error_count()} fields differ)",
            hint="is this the address of a Backdoor Audit service of the same version?",
        ) from error


def _read_report(received: Received) -> AuditReport:
    report = _read(AuditReport, received, extra="ignore")
    if report.schema_version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise UnexpectedAnswer(
            f"the report has schema version {report.schema_version}; this client reads {SCHEMA_VERSION}",
            hint="use a client of the service's version",
        )
    return report
