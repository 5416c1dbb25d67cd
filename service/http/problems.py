"""Every error as ``application/problem+json`` (RFC 9457), and the one table that says which error is which problem.

A problem never holds what the client sent, and never what only the operator should see: details are fixed texts,
findings are JSON pointers with a reason.
"""

import json
import traceback
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import jobs.errors
import models_store.errors
import service.errors
import storage.errors
import worker.errors
from backdoor_audit.contract.spec import TERMINAL
from service.errors import ErrorItem
from service.http.validation import request_items

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 5
"""What a client is asked to wait when a part of the service is out."""

_TYPE_PREFIX: Final = "urn:problem-type:backdoor-audit:"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Kind:
    """One kind of problem: ``code`` names it for programs, ``title`` for people."""

    code: str
    status: int
    title: str
    detail: str
    retry_after_s: int | None = None

    @property
    def type(self) -> str:
        """The identifier that RFC 9457 calls ``type``."""
        return _TYPE_PREFIX + self.code.replace("_", "-")


INTERNAL: Final = Kind(
    "internal", 500, "Internal error", "Something went wrong here. The service's log knows more under this instance."
)
NOT_FOUND: Final = Kind("not_found", 404, "Not found", "No call of this API has this path.")
AUDIT_NOT_FOUND: Final = Kind("audit_not_found", 404, "Audit not found", "There is no audit with this id.")
FEATURE_NOT_FOUND: Final = Kind(
    "feature_not_found", 404, "Feature not found", "The report flags no feature with this id."
)
ARTIFACT_NOT_FOUND: Final = Kind(
    "artifact_not_found", 404, "Artifact not found", "The audit left no file or folder with this name."
)
KEY_NOT_FOUND: Final = Kind("key_not_found", 404, "Key not found", "There is no API key with this id.")
UNAUTHENTICATED: Final = Kind(
    "unauthenticated", 401, "Key needed", "This call needs an API key: send it as `Authorization: Bearer …`."
)
MISSING_SCOPE: Final = Kind(
    "missing_scope", 403, "Scope missing", "The API key does not have the scope that this needs."
)
SIGNATURE_REFUSED: Final = Kind(
    "signature_refused",
    401,
    "Signature refused",
    "The event is not signed with the secret that was agreed on, or its time is not now.",
)
EVENTS_OFF: Final = Kind(
    "events_off", 404, "Not set up", "This service takes no events of MLflow; its operator can set a secret for them."
)
CROSS_SITE: Final = Kind(
    "cross_site", 403, "From another site", "A service without keys takes no changes from pages of other sites."
)
MISDIRECTED: Final = Kind(
    "misdirected",
    421,
    "Unknown host",
    "A service without keys answers only under localhost, 127.0.0.1 and [::1]; elsewhere, have it require keys.",
)
WEBHOOK_NOT_FOUND: Final = Kind("webhook_not_found", 404, "Webhook not found", "There is no webhook with this id.")
DELIVERY_NOT_FOUND: Final = Kind(
    "delivery_not_found", 404, "Delivery not found", "This webhook has no delivery with this id."
)
WEBHOOK_TAKEN: Final = Kind("webhook_taken", 409, "Registered before", "There is a webhook with this address already.")
WEBHOOK_DISABLED: Final = Kind(
    "webhook_disabled",
    409,
    "Webhook disabled",
    "Its other side said that it is gone. Remove the webhook, and register it anew where that has changed.",
)
TOO_MANY_WEBHOOKS: Final = Kind("too_many_webhooks", 409, "Too many webhooks", "Remove one before you add another.")
AUDIT_NOT_TERMINAL: Final = Kind(
    "audit_not_terminal", 409, "Audit not ended", "Only an audit that has ended can be deleted; cancel it first."
)
REPORT_NOT_READY: Final = Kind(
    "report_not_ready", 409, "No report", "The audit has not ended; its report is written when it has."
)
REPORT_NEVER: Final = Kind(
    "no_report", 409, "No report", "The audit ended without a report; the audit itself says why, under `failure`."
)
IDEMPOTENCY_CONFLICT: Final = Kind(
    "idempotency_conflict", 422, "Key used before", "This Idempotency-Key was used before with another body."
)
INVALID_REQUEST: Final = Kind(
    "invalid_request", 422, "Invalid request", "The request is not what this call takes; `errors` says where."
)
MALFORMED_JSON: Final = Kind("malformed_json", 400, "Malformed JSON", "The body is not a JSON text.")
METHOD_NOT_ALLOWED: Final = Kind(
    "method_not_allowed", 405, "Method not allowed", "This path does not take this method; `Allow` lists those it does."
)
NOT_ACCEPTABLE: Final = Kind(
    "not_acceptable",
    406,
    "Not acceptable",
    "The report is not served in this form; the API's document lists those it is.",
)
TOO_LARGE: Final = Kind("content_too_large", 413, "Body too large", "The body is over the limit of 8 MiB.")
RANGE_NOT_SATISFIABLE: Final = Kind(
    "range_not_satisfiable",
    416,
    "Range behind the end",
    "The file ends before the part that was asked for; `Content-Range` says how long it is.",
)
UNSUPPORTED: Final = Kind(
    "unsupported_media_type", 415, "Unsupported media type", "Send the body as Content-Type: application/json."
)
QUEUE_FULL: Final = Kind(
    "queue_full",
    429,
    "Queue full",
    "This owner has as many audits waiting as one may have. Try again when some have begun.",
    RETRY_AFTER_S,
)
TOO_MANY_REQUESTS: Final = Kind(
    "too_many_requests", 429, "Too many requests", "This key has made as many requests as it may in a minute.", 1
)
LEDGER_OUT: Final = Kind(
    "ledger_unavailable", 503, "Ledger unavailable", "The database does not answer. Try again.", RETRY_AFTER_S
)
SCHEMA_MISMATCH: Final = Kind(
    "schema_mismatch",
    503,
    "Versions differ",
    "The database and this service are of different versions; the operator must update one of them.",
    RETRY_AFTER_S,
)
BROKER_OUT: Final = Kind(
    "broker_unavailable", 503, "Broker unavailable", "The message broker does not answer. Try again.", RETRY_AFTER_S
)
NOT_READY: Final = Kind(
    "not_ready", 503, "Not ready", "A part that the service needs does not answer; `errors` names it.", RETRY_AFTER_S
)
MODEL_NOT_FOUND: Final = Kind("model_not_found", 404, "Model not found", "There is no model with this reference.")
MODEL_REJECTED: Final = Kind(
    "model_rejected", 422, "Model refused", "The checkpoint is not one that this service opens."
)
INVALID_REFERENCE: Final = Kind(
    "invalid_reference",
    422,
    "Invalid model reference",
    "A model reference is local:<path under the models root>, store:<name>, hf:<org>/<repo>@<40-hex commit> or "
    "mlflow:<model>/<version>.",
)
MODELS_INCOMPATIBLE: Final = Kind(
    "models_incompatible", 422, "Models do not fit", "The fine-tuned model is not a fine-tune of this base."
)
NAME_TAKEN: Final = Kind("name_taken", 409, "Name taken", "Another model has this name.")
UPLOAD_OFFSET: Final = Kind(
    "upload_offset", 409, "Other offset", "The bytes before this part are not there; `Upload-Offset` says how many are."
)
UPLOAD_BUSY: Final = Kind("upload_busy", 409, "Upload busy", "Somebody else is writing to this upload.")
UPLOAD_INCOMPLETE: Final = Kind(
    "upload_incomplete", 409, "Upload incomplete", "A file of the upload is not all there; `errors` names it."
)
UPLOAD_REFUSED: Final = Kind("upload_refused", 409, "Upload refused", "The upload cannot go on like this.")
DIGEST_MISMATCH: Final = Kind(
    "digest_mismatch", 422, "Digest differs", "The file that arrived is not the one that was sent; it was deleted."
)
MODEL_IN_USE: Final = Kind("model_in_use", 409, "Model in use", "An audit that has not ended uses this model.")
NO_SPACE: Final = Kind("no_space", 507, "No space left", "The disk of the store is full.")
STORE_OUT: Final = Kind(
    "store_unavailable", 503, "Store unavailable", "The disk of the store does not answer. Try again.", RETRY_AFTER_S
)

LIBRARY_NOT_FOUND: Final = Kind(
    "library_not_found", 404, "Library not found", "There is no benign library with this id or name."
)
LIBRARY_NAME_TAKEN: Final = Kind("library_name_taken", 409, "Name taken", "Another of your libraries has this name.")
LIBRARY_IN_USE: Final = Kind(
    "library_in_use", 409, "Library in use", "An audit that has not ended compares with this library."
)
LIBRARY_FULL: Final = Kind(
    "library_full", 409, "No more room", "The library, or your list of libraries, is as long as it may be."
)
ENTRY_NOT_FOUND: Final = Kind("entry_not_found", 404, "Entry not found", "The library holds no entry with this id.")
ENTRY_EXISTS: Final = Kind(
    "entry_exists", 409, "Model there already", "The library holds a score of this model already: one a model."
)
ENTRY_REFUSED: Final = Kind(
    "entry_refused", 409, "No score to take", "The audit has no score that a library could take."
)

KINDS: Final[dict[type[Exception], Kind]] = {
    jobs.errors.LedgerError: INTERNAL,
    jobs.errors.AuditNotFound: AUDIT_NOT_FOUND,
    jobs.errors.KeyNotFound: KEY_NOT_FOUND,
    jobs.errors.QueueFull: QUEUE_FULL,
    jobs.errors.WebhookNotFound: WEBHOOK_NOT_FOUND,
    jobs.errors.WebhookTaken: WEBHOOK_TAKEN,
    jobs.errors.TooManyWebhooks: TOO_MANY_WEBHOOKS,
    jobs.errors.WebhookDisabled: WEBHOOK_DISABLED,
    jobs.errors.DeliveryNotFound: DELIVERY_NOT_FOUND,
    jobs.errors.UnknownWebhook: INVALID_REQUEST,
    jobs.errors.AuditNotTerminal: AUDIT_NOT_TERMINAL,
    jobs.errors.ReportNotReady: REPORT_NOT_READY,
    jobs.errors.IdempotencyConflict: IDEMPOTENCY_CONFLICT,
    jobs.errors.LibraryNotFound: LIBRARY_NOT_FOUND,
    jobs.errors.LibraryNameTaken: LIBRARY_NAME_TAKEN,
    jobs.errors.LibraryInUse: LIBRARY_IN_USE,
    jobs.errors.LibraryFull: LIBRARY_FULL,
    jobs.errors.EntryNotFound: ENTRY_NOT_FOUND,
    jobs.errors.EntryExists: ENTRY_EXISTS,
    jobs.errors.EntryRefused: ENTRY_REFUSED,
    jobs.errors.InvalidPageToken: INVALID_REQUEST,
    jobs.errors.LeaseLost: INTERNAL,
    jobs.errors.SchemaMismatch: SCHEMA_MISMATCH,
    jobs.errors.DocumentUnreadable: SCHEMA_MISMATCH,
    jobs.errors.SpecTooNew: SCHEMA_MISMATCH,
    jobs.errors.LedgerUnavailable: LEDGER_OUT,
    worker.errors.WorkerError: INTERNAL,
    worker.errors.BrokerUnavailable: BROKER_OUT,
    worker.errors.ProtocolError: INTERNAL,
    worker.errors.SettingsError: INTERNAL,
    models_store.errors.StoreError: INTERNAL,
    models_store.errors.ModelNotFound: MODEL_NOT_FOUND,
    models_store.errors.ModelRejected: MODEL_REJECTED,
    models_store.errors.InvalidReference: INVALID_REFERENCE,
    models_store.errors.ModelsIncompatible: MODELS_INCOMPATIBLE,
    models_store.errors.NameTaken: NAME_TAKEN,
    models_store.errors.UploadRefused: UPLOAD_REFUSED,
    models_store.errors.OffsetMismatch: UPLOAD_OFFSET,
    models_store.errors.UploadBusy: UPLOAD_BUSY,
    models_store.errors.UploadIncomplete: UPLOAD_INCOMPLETE,
    models_store.errors.DigestMismatch: DIGEST_MISMATCH,
    models_store.errors.ModelInUse: MODEL_IN_USE,
    models_store.errors.NoSpace: NO_SPACE,
    models_store.errors.StoreUnavailable: STORE_OUT,
    storage.errors.StorageError: INTERNAL,
    storage.errors.InvalidLocation: INTERNAL,
    storage.errors.DiskFull: NO_SPACE,
    storage.errors.StorageUnavailable: STORE_OUT,
    service.errors.ServiceError: INTERNAL,
    service.errors.MalformedJson: MALFORMED_JSON,
    service.errors.InvalidRequest: INVALID_REQUEST,
    service.errors.UnknownLibrary: INVALID_REQUEST,
    service.errors.UnsupportedMediaType: UNSUPPORTED,
    service.errors.NotAcceptable: NOT_ACCEPTABLE,
    service.errors.ContentTooLarge: TOO_LARGE,
    service.errors.Unauthenticated: UNAUTHENTICATED,
    service.errors.MissingScope: MISSING_SCOPE,
    service.errors.TooManyRequests: TOO_MANY_REQUESTS,
    service.errors.SignatureRefused: SIGNATURE_REFUSED,
    service.errors.EventsOff: EVENTS_OFF,
    service.errors.NoSuchPath: NOT_FOUND,
    service.errors.FeatureNotFound: FEATURE_NOT_FOUND,
    service.errors.ArtifactNotFound: ARTIFACT_NOT_FOUND,
    service.errors.RangeNotSatisfiable: RANGE_NOT_SATISFIABLE,
    service.errors.NotReady: NOT_READY,
    service.errors.StartupError: INTERNAL,
}
"""Each class of the rooms' error trees, and what a client is told. A test refuses a class that is missing here."""

OTHERS: Final[tuple[Kind, ...]] = (REPORT_NEVER, CROSS_SITE, MISDIRECTED, METHOD_NOT_ALLOWED)
"""Kinds that are no error's own: they are told from something else than a class."""

ROOTS: Final[tuple[type[Exception], ...]] = (
    jobs.errors.LedgerError,
    worker.errors.WorkerError,
    models_store.errors.StoreError,
    storage.errors.StorageError,
    service.errors.ServiceError,
)

_BY_PARAMETER: Final[dict[str, Kind]] = {
    "#/audit_id": AUDIT_NOT_FOUND,
    "#/key_id": KEY_NOT_FOUND,
    "#/webhook_id": WEBHOOK_NOT_FOUND,
    "#/delivery_id": DELIVERY_NOT_FOUND,
    "#/library": LIBRARY_NOT_FOUND,
    "#/entry_id": ENTRY_NOT_FOUND,
}
"""What a path that cannot be right is about, by the parameter that is wrong."""

_EXPLAINED: Final = (
    models_store.errors.ModelRejected,
    models_store.errors.UploadRefused,
    models_store.errors.NameTaken,
)
"""Errors whose own message goes out: what is wrong with a file, and what to do."""

_BY_STATUS: Final[dict[int, Kind]] = {
    404: NOT_FOUND,
    405: METHOD_NOT_ALLOWED,
    406: NOT_ACCEPTABLE,
    413: TOO_LARGE,
    415: UNSUPPORTED,
    422: INVALID_REQUEST,
    500: INTERNAL,
}


def kind_of(error: Exception) -> Kind:
    """The problem that ``error`` is; of a class that is not in the table, its nearest ancestor's."""
    if isinstance(error, jobs.errors.ReportNotReady) and error.status in TERMINAL:
        return REPORT_NEVER
    for ancestor in type(error).__mro__:
        if ancestor in KINDS:
            return KINDS[ancestor]
    return INTERNAL


def body(
    kind: Kind, *, detail: str | None = None, errors: Sequence[ErrorItem] = (), instance: str | None = None
) -> Any:
    """The problem's members, as ``service.http.schemas.Problem`` describes them."""
    return {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "detail": detail or kind.detail,
        "instance": instance,
        "errors": [{"in": item.place, "pointer": item.pointer, "detail": item.detail} for item in errors],
    }


def response(
    kind: Kind,
    *,
    detail: str | None = None,
    errors: Sequence[ErrorItem] = (),
    instance: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The problem as an answer, with ``Retry-After`` where trying again may help."""
    sent = dict(headers or {}) | {"Cache-Control": "no-store"}
    if kind.retry_after_s is not None:
        sent.setdefault("Retry-After", str(kind.retry_after_s))
    content = json.dumps(body(kind, detail=detail, errors=errors, instance=instance)).encode()
    return Response(content, status_code=kind.status, headers=sent, media_type=MEDIA_TYPE)


def for_error(error: Exception, *, headers: Mapping[str, str] | None = None) -> Response:
    """Answer for an error of one of the rooms, or for one that nobody expected (which is logged)."""
    kind = kind_of(error)
    if kind is INTERNAL:
        return internal(error)
    if kind.status >= 500:
        log.warning("refused", code=kind.code, error=type(error).__name__)
    detail: str | None = None
    items: tuple[ErrorItem, ...] = ()
    sent = dict(headers or {})
    if isinstance(error, service.errors.ServiceError):
        detail, items = error.detail, error.errors
        sent |= error.headers
    if isinstance(error, jobs.errors.EntryRefused):
        detail = f"{error.reason[:1].upper()}{error.reason[1:]}."
    if isinstance(error, jobs.errors.InvalidPageToken):
        items = (ErrorItem("query", "#/page_token", "is not a token of this listing with these filters"),)
    if isinstance(error, _EXPLAINED):
        # Written by the store about a file, shortened and made printable there; holds no paths of this machine.
        items = (ErrorItem("service", "#", f"{error.message}; {error.hint}" if error.hint else error.message),)
    if isinstance(error, models_store.errors.OffsetMismatch):
        sent["Upload-Offset"] = str(error.offset)
    if isinstance(error, jobs.errors.UnknownWebhook):
        items = (ErrorItem("body", "#/webhook/url", "is no webhook of yours; register it with POST /webhooks"),)
    return response(kind, detail=detail, errors=items, headers=sent)


def internal(error: BaseException) -> Response:
    """Log ``error`` under a fresh instance id and answer with that id alone."""
    instance = uuid.uuid4().urn
    log_internal(error, instance=instance)
    return response(INTERNAL, instance=instance)


def log_internal(error: BaseException, *, instance: str | None = None) -> None:
    """Log where ``error`` and its causes were raised. Not their messages: those may repeat prompts or addresses."""
    causes: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < 10:
        causes.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("internal error", instance=instance, errors=causes, frames=frames)


async def on_room_error(request: Request, error: Exception) -> Response:
    """Exception handler for the error trees of the rooms."""
    return for_error(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Exception handler for what the framework refuses by itself: 404, 405 and their like."""
    assert isinstance(error, HTTPException)
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:
        title = HTTPStatus(error.status_code).phrase
        kind = Kind(title.lower().replace(" ", "_"), error.status_code, title, f"{title}.")
    headers = dict(error.headers or {})
    if kind is METHOD_NOT_ALLOWED:
        # The router names the methods of the first route with this path; a path can have several routes.
        headers["Allow"] = ", ".join(request.app.methods_of(request.url.path)) or headers.get("Allow", "")
    return response(kind, headers=headers)


async def on_invalid_request(request: Request, error: Exception) -> Response:
    """Exception handler for parameters that the framework refuses."""
    assert isinstance(error, RequestValidationError)
    items = request_items(error.errors())
    for item in items:
        if item.place == "path":
            # The parameters in paths are ids and names, and what has not the form of one is none that exists.
            return response(_BY_PARAMETER.get(item.pointer, NOT_FOUND))
    return response(INVALID_REQUEST, errors=items)
