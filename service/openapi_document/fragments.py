"""Small pieces of the OpenAPI document that the calls share."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel

from jobs.errors import (
    AuditNotFound,
    AuditNotTerminal,
    IdempotencyConflict,
    LedgerUnavailable,
    NoReport,
    QueueFull,
    ReportNotReady,
    SchemaMismatch,
)
from models_store.errors import OffsetMismatch, StoreUnavailable
from service.errors import (
    BodyTooSlow,
    ContentTooLarge,
    InvalidRequest,
    MalformedJson,
    MethodNotAllowed,
    NoSuchPath,
    NotAcceptable,
    ServiceError,
    SignatureRefused,
    UnknownHost,
    UnsupportedMediaType,
)
from service.http import problems
from service.http.problems import RoomError

Responses = dict[int | str, dict[str, Any]]

_USUAL: Final[dict[int, tuple[type[RoomError], ...]]] = {
    400: (MalformedJson,),
    404: (AuditNotFound,),
    406: (NotAcceptable,),
    409: (AuditNotTerminal, ReportNotReady, NoReport),
    413: (ContentTooLarge,),
    415: (UnsupportedMediaType,),
    422: (InvalidRequest, IdempotencyConflict),
    429: (QueueFull,),
    503: (LedgerUnavailable, SchemaMismatch, StoreUnavailable),
}


_ANYWHERE: Final = (ServiceError, NoSuchPath, MethodNotAllowed, UnknownHost, BodyTooSlow)
"""Problems that can occur for any request."""


def header(description: str, kind: str = "string") -> dict[str, Any]:
    """A response header."""
    return {"description": description, "schema": {"type": kind}}


def answer(
    description: str, example: str, headers: dict[str, Any] | None = None, model: type[BaseModel] | None = None
) -> dict[str, Any]:
    """A successful response with its example, by name; ``model`` only if it is not the call's main response."""
    found: dict[str, Any] = {"description": description, "content": {"application/json": {"examples": named(example)}}}
    if headers:
        found["headers"] = headers
    if model is not None:
        found["model"] = model
    return found


def named(*names: str) -> dict[str, Any]:
    """Examples by name. They are kept in one place in the document: FastAPI would drop the nulls of those given
    here.
    """
    return {name: {"$ref": f"#/components/examples/{name}"} for name in names}


def described(answers: Mapping[int, dict[str, Any]], *errors: int | type[RoomError]) -> Responses:
    """All responses of a call: its own, and the problems that it can return; ``default`` stands for all others.

    A problem is named by its error class, or by its status, which stands for the usual problems with that status.
    """
    found: Responses = dict(answers.items())
    by_status: dict[int, tuple[type[RoomError], ...]] = {}
    for one in errors:
        if isinstance(one, int):
            by_status[one] = (*by_status.get(one, ()), *_USUAL[one])
        else:
            status = problems.STATUSES[one.problem.code]
            by_status[status] = (*by_status.get(status, ()), one)
    for status, group in by_status.items():
        found[status] = problem(status, group)
    found["default"] = problem(500, _ANYWHERE, "Any other problem.")
    return found


def problem(status: int, errors: tuple[type[RoomError], ...], description: str | None = None) -> dict[str, Any]:
    """A problem response with an example of each."""
    examples = named(*(error.problem.code for error in errors))
    found: dict[str, Any] = {
        "description": description or HTTPStatus(status).phrase,
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
    }
    headers = {}
    if any(error.problem.code in problems.RETRY_AFTER_S for error in errors):
        headers["Retry-After"] = header("Seconds to wait before trying again.", "integer")
    if SignatureRefused in errors:
        headers["WWW-Authenticate"] = header("The required scope.")
    if OffsetMismatch in errors:
        headers["Upload-Offset"] = header("Number of bytes of the file that have arrived; resume from here.", "integer")
    return found | ({"headers": headers} if headers else {})
