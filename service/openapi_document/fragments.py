"""Small pieces of the OpenAPI document that the calls share."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel

from service.http import problems
from service.http.problems import Kind

Responses = dict[int | str, dict[str, Any]]

_KINDS: Final[dict[int, tuple[Kind, ...]]] = {
    400: (problems.MALFORMED_JSON,),
    404: (problems.AUDIT_NOT_FOUND,),
    406: (problems.NOT_ACCEPTABLE,),
    409: (problems.AUDIT_NOT_TERMINAL, problems.REPORT_NOT_READY, problems.REPORT_NEVER),
    413: (problems.TOO_LARGE,),
    415: (problems.UNSUPPORTED,),
    422: (problems.INVALID_REQUEST, problems.IDEMPOTENCY_CONFLICT),
    429: (problems.QUEUE_FULL,),
    503: (problems.LEDGER_OUT, problems.SCHEMA_MISMATCH, problems.STORE_OUT),
}


_ANYWHERE: Final = (problems.INTERNAL, problems.NOT_FOUND, problems.METHOD_NOT_ALLOWED, problems.MISDIRECTED)
"""What can meet any request, whatever it asks for."""


def header(description: str, kind: str = "string") -> dict[str, Any]:
    """A response header."""
    return {"description": description, "schema": {"type": kind}}


def answer(
    description: str, example: str, headers: dict[str, Any] | None = None, model: type[BaseModel] | None = None
) -> dict[str, Any]:
    """A successful answer with its example, by name; ``model`` only where it is not the call's main answer."""
    found: dict[str, Any] = {"description": description, "content": {"application/json": {"examples": named(example)}}}
    if headers:
        found["headers"] = headers
    if model is not None:
        found["model"] = model
    return found


def named(*names: str) -> dict[str, Any]:
    """Examples by name. They are in one place in the document: FastAPI would drop the nulls of those given here."""
    return {name: {"$ref": f"#/components/examples/{name}"} for name in names}


def described(answers: Mapping[int, dict[str, Any]], *named_problems: int | Kind) -> Responses:
    """All answers of a call: its own, and the problems it can answer with; ``default`` stands for all others.

    A problem is named by its status (then it stands for the usual ones of that status) or by its kind.
    """
    found: Responses = dict(answers.items())
    kinds: dict[int, tuple[Kind, ...]] = {}
    for one in named_problems:
        if isinstance(one, Kind):
            kinds[one.status] = (*kinds.get(one.status, ()), one)
        else:
            kinds[one] = (*kinds.get(one, ()), *_KINDS[one])
    for status, group in kinds.items():
        found[status] = problem(status, group)
    found["default"] = problem(500, _ANYWHERE, "Any other problem.")
    return found


def problem(status: int, kinds: tuple[Kind, ...], description: str | None = None) -> dict[str, Any]:
    """A problem answer with an example of each kind."""
    examples = named(*(kind.code for kind in kinds))
    found: dict[str, Any] = {
        "description": description or HTTPStatus(status).phrase,
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
    }
    headers = {}
    if any(kind.retry_after_s for kind in kinds):
        headers["Retry-After"] = header("Seconds after which to try again.", "integer")
    if problems.SIGNATURE_REFUSED in kinds:
        headers["WWW-Authenticate"] = header("What the call needs.")
    if problems.UPLOAD_OFFSET in kinds:
        headers["Upload-Offset"] = header("Bytes of the file that are there; go on from here.", "integer")
    return found | ({"headers": headers} if headers else {})
