"""Every error as ``application/problem+json`` (RFC 9457), and the one table that gives each problem its HTTP status.

Title and text of a problem are defined with the error classes (``problem``). A problem never contains what the client
sent, nor what only the operator should see: details are fixed texts, errors are JSON pointers with a reason.
"""

import json
import traceback
import uuid
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from common.problem_type import INTERNAL, INVALID_REQUEST, ProblemType
from jobs.errors import (
    AuditNotFound,
    DeliveryNotFound,
    EntryNotFound,
    EntryRefused,
    InvalidPageToken,
    KeyNotFound,
    LedgerError,
    LibraryNotFound,
    UnknownWebhook,
    WebhookNotFound,
)
from models_store.errors import ModelRejected, NameTaken, OffsetMismatch, StoreError, StoreFull, UploadRefused
from service.errors import (
    BatchNotFound,
    ContentTooLarge,
    ErrorItem,
    MethodNotAllowed,
    NoSuchPath,
    NotAcceptable,
    ServiceError,
    UnsupportedMediaType,
)
from service.http.validation import request_items
from storage.errors import StorageError
from worker.errors import WorkerError

MEDIA_TYPE: Final = "application/problem+json"

RoomError = LedgerError | WorkerError | StoreError | StorageError | ServiceError
ROOTS: Final[tuple[type[RoomError], ...]] = (LedgerError, WorkerError, StoreError, StorageError, ServiceError)
"""The rooms' error trees. A test refuses a class without a problem type, or a problem type without a status."""

STATUSES: Final[dict[str, int]] = {
    "malformed_json": 400,
    "unauthenticated": 401,
    "signature_refused": 401,
    "missing_scope": 403,
    "cross_site": 403,
    "not_found": 404,
    "audit_not_found": 404,
    "batch_not_found": 404,
    "feature_not_found": 404,
    "artifact_not_found": 404,
    "key_not_found": 404,
    "events_off": 404,
    "webhook_not_found": 404,
    "delivery_not_found": 404,
    "model_not_found": 404,
    "library_not_found": 404,
    "entry_not_found": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "webhook_taken": 409,
    "webhook_disabled": 409,
    "too_many_webhooks": 409,
    "audit_not_terminal": 409,
    "report_not_ready": 409,
    "no_report": 409,
    "files_unknown": 409,
    "no_signing_key": 409,
    "name_taken": 409,
    "upload_offset": 409,
    "upload_busy": 409,
    "upload_incomplete": 409,
    "upload_refused": 409,
    "model_in_use": 409,
    "library_name_taken": 409,
    "library_in_use": 409,
    "library_full": 409,
    "too_many_decisions": 409,
    "entry_exists": 409,
    "entry_refused": 409,
    "entry_needs_reason": 409,
    "request_timeout": 408,
    "content_too_large": 413,
    "store_full": 413,
    "unsupported_media_type": 415,
    "range_not_satisfiable": 416,
    "misdirected": 421,
    "invalid_request": 422,
    "idempotency_conflict": 422,
    "model_rejected": 422,
    "invalid_reference": 422,
    "models_incompatible": 422,
    "digest_mismatch": 422,
    "queue_full": 429,
    "too_many_requests": 429,
    "internal": 500,
    "ledger_unavailable": 503,
    "schema_mismatch": 503,
    "broker_unavailable": 503,
    "not_ready": 503,
    "store_unavailable": 503,
    "no_space": 507,
}
"""The HTTP status of each problem, by its code."""

RETRY_AFTER_S: Final[dict[str, int]] = {
    "queue_full": 5,
    "too_many_requests": 1,
    "ledger_unavailable": 5,
    "schema_mismatch": 5,
    "broker_unavailable": 5,
    "not_ready": 5,
    "store_unavailable": 5,
}
"""Seconds after which the same request may succeed."""

_TYPE_PREFIX: Final = "urn:problem-type:backdoor-audit:"

_BY_PARAMETER: Final[dict[str, ProblemType]] = {
    "#/audit_id": AuditNotFound.problem,
    "#/batch_id": BatchNotFound.problem,
    "#/key_id": KeyNotFound.problem,
    "#/webhook_id": WebhookNotFound.problem,
    "#/delivery_id": DeliveryNotFound.problem,
    "#/library": LibraryNotFound.problem,
    "#/entry_id": EntryNotFound.problem,
}
"""What was not found, by the path parameter that is malformed."""

_EXPLAINED: Final = (ModelRejected, UploadRefused, NameTaken, StoreFull)
"""Errors whose own message is sent to the client: what is wrong with a file, and what to do."""

_BY_STATUS: Final[dict[int, ProblemType]] = {
    404: NoSuchPath.problem,
    405: MethodNotAllowed.problem,
    406: NotAcceptable.problem,
    413: ContentTooLarge.problem,
    415: UnsupportedMediaType.problem,
    422: INVALID_REQUEST,
    500: INTERNAL,
}

log = structlog.get_logger(__name__)


def error_classes() -> Iterator[type[RoomError]]:
    """Every class of the rooms' error trees."""
    pending = list(ROOTS)
    while pending:
        found = pending.pop()
        yield found
        pending += found.__subclasses__()


def problem_of(error: Exception) -> ProblemType:
    """The problem type of ``error``; ``INTERNAL`` for an unknown error."""
    problem = getattr(error, "problem", INTERNAL)
    return problem if isinstance(problem, ProblemType) else INTERNAL


def detail_of(error: Exception) -> str:
    """The text about ``error`` for people."""
    match error:
        case ServiceError(detail=str(detail)):
            return detail
        case EntryRefused(reason=reason):
            return f"{reason[:1].upper()}{reason[1:]}."
    return problem_of(error).detail


def body(
    problem: ProblemType,
    *,
    status: int | None = None,
    detail: str | None = None,
    errors: Sequence[ErrorItem] = (),
    instance: str | None = None,
) -> Any:
    """The problem's members, as ``service.http.schemas.Problem`` describes them."""
    return {
        "type": _TYPE_PREFIX + problem.code.replace("_", "-"),
        "title": problem.title,
        "status": status or STATUSES[problem.code],
        "code": problem.code,
        "detail": detail or problem.detail,
        "instance": instance,
        "errors": [{"in": item.place, "pointer": item.pointer, "detail": item.detail} for item in errors],
    }


def response(
    problem: ProblemType,
    *,
    status: int | None = None,
    detail: str | None = None,
    errors: Sequence[ErrorItem] = (),
    instance: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The problem as a response, with ``Retry-After`` if trying again may help.

    Args:
        status: if it differs from the one in ``STATUSES``.
    """
    sent = dict(headers or {}) | {"Cache-Control": "no-store"}
    if problem.code in RETRY_AFTER_S:
        sent.setdefault("Retry-After", str(RETRY_AFTER_S[problem.code]))
    members = body(problem, status=status, detail=detail, errors=errors, instance=instance)
    return Response(json.dumps(members).encode(), status_code=members["status"], headers=sent, media_type=MEDIA_TYPE)


def for_error(error: Exception) -> Response:
    """Response to an error of one of the rooms, or to an unexpected one (which is logged)."""
    problem = problem_of(error)
    if problem is INTERNAL:
        return internal(error)
    if STATUSES[problem.code] >= 500:
        log.warning("request.failed", code=problem.code, error=type(error).__name__)
    status = error.status if isinstance(error, ServiceError) else None
    return response(problem, status=status, detail=detail_of(error), errors=_items_of(error), headers=headers_of(error))


def headers_of(error: Exception) -> dict[str, str]:
    """Headers of the response to ``error``, besides ``Retry-After``."""
    match error:
        case ServiceError():
            return error.headers
        case OffsetMismatch(offset=offset):
            return {"Upload-Offset": str(offset)}
    return {}


def _items_of(error: Exception) -> tuple[ErrorItem, ...]:
    match error:
        case ServiceError():
            return error.errors
        case InvalidPageToken():
            return (ErrorItem("query", "#/page_token", "is not a token of this listing with these filters"),)
        case UnknownWebhook():
            return (ErrorItem("body", "#/webhook/url", "is not one of your webhooks; register it with POST /webhooks"),)
    if isinstance(error, _EXPLAINED):
        # Written by the store about a file, shortened and made printable there; contains no paths of this machine.
        return (ErrorItem("service", "#", f"{error.message}; {error.hint}" if error.hint else error.message),)
    return ()


def internal(error: BaseException) -> Response:
    """Log ``error`` under a new instance id, and respond with only that id."""
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
    log.error("request.crashed", instance=instance, errors=causes, frames=frames)


async def on_room_error(request: Request, error: Exception) -> Response:
    """Exception handler for the error trees of the rooms."""
    return for_error(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Exception handler for what the framework itself refuses, such as 404 and 405."""
    assert isinstance(error, HTTPException)
    problem = _BY_STATUS.get(error.status_code)
    if problem is None:
        title = HTTPStatus(error.status_code).phrase
        problem = ProblemType(title.lower().replace(" ", "_"), title, f"{title}.")
    headers = dict(error.headers or {})
    if problem is MethodNotAllowed.problem:
        # The router only lists the methods of the first route with this path, but a path can have several routes.
        headers["Allow"] = ", ".join(request.app.methods_of(request.url.path)) or headers.get("Allow", "")
    return response(problem, status=error.status_code, headers=headers)


async def on_invalid_request(request: Request, error: Exception) -> Response:
    """Exception handler for parameters that the framework refuses."""
    assert isinstance(error, RequestValidationError)
    items = request_items(error.errors())
    for item in items:
        if item.place == "path":
            # Path parameters are ids and names: nothing exists under a malformed one.
            return response(_BY_PARAMETER.get(item.pointer, NoSuchPath.problem))
    return response(INVALID_REQUEST, errors=items)
