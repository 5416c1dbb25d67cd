"""Reads a request's body: one unambiguous JSON text, then one validated value."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from backdoor_audit.contract.spec.carriers import MAX_PROMPTS
from backdoor_audit.contract.spec.search import MAX_LOG_LINES, MAX_STRINGS
from service.errors import InvalidRequest, MalformedJson, UnsupportedMediaType
from service.http.validation import body_items
from service.openapi_document.fragments import named

M = TypeVar("M", bound=BaseModel)

_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

_MAX_KEYS: Final = 100
_MAX_ITEMS: Final = max(MAX_PROMPTS, MAX_STRINGS, MAX_LOG_LINES)
MAX_VALUES: Final = 300_000
"""Values in one body: each that is wrong takes some hundred bytes, and a body of 8 MiB has room for millions."""


def reading(model: type[M], *, empty: M | None = None) -> Callable[[Request], Awaitable[M]]:
    """A dependency that returns the ``model`` in a request's body; ``empty`` stands for no body at all, if given.

    It raises ``UnsupportedMediaType``, ``MalformedJson`` and ``InvalidRequest``.
    """

    async def read(request: Request) -> M:
        raw = await request.body()
        if empty is not None and not raw and request.headers.get("content-type") is None:
            return empty
        require_json(request.headers.get("content-type"))
        # Decoding a large body takes so long that other requests on the event loop would notice.
        return await run_in_threadpool(parse, model, raw)

    return read


read_spec: Final = reading(AuditSpec)
"""A dependency that returns the spec in a request's body."""


def body_of(model: type[BaseModel], *example_names: str, required: bool = True) -> dict[str, Any]:
    """The OpenAPI entry of a call whose body is read by :func:`reading`."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    content = {"application/json": {"schema": schema, "examples": named(*example_names)}}
    return {"requestBody": {"required": required, "content": content}}


def parse(model: type[M], raw: bytes) -> M:
    """Decode and validate. Types are not converted: the string "7" is not a number here.

    Raises:
        MalformedJson, InvalidRequest
    """
    document = decode(raw)
    try:
        return model.model_validate(document, strict=True)
    except ValidationError as error:
        # Without a cause: the validation error contains the input, which must not reach a log.
        raise InvalidRequest(errors=body_items(error, document)) from None


def require_json(content_type: str | None) -> None:
    """Refuse a body that is not declared as JSON.

    Browsers send other types across origins without a preflight, so this also keeps foreign pages from submitting
    audits.

    Raises:
        UnsupportedMediaType
    """
    essence = (content_type or "").split(";", 1)[0].strip().lower()
    if essence != "application/json":
        raise UnsupportedMediaType


def decode(raw: bytes) -> Any:
    """One JSON text as Python values, arrays in objects as tuples.

    Stricter than ``json``: no NaN or Infinity, no duplicate keys in an object (parsers differ on which one counts), no
    lone surrogates (which are not text), and bounded depth.

    Raises:
        MalformedJson, InvalidRequest
    """
    if not raw.strip():
        raise MalformedJson("The body is empty; it must be a JSON object.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedJson("The body is not UTF-8.") from None
    try:
        document = json.loads(text, object_pairs_hook=_Objects(), parse_float=_number, parse_constant=_refuse_constant)
    except RecursionError:
        raise MalformedJson("The body is nested too deeply.") from None
    except ValueError:
        raise MalformedJson from None
    if _SURROGATE_ESCAPE.search(raw):
        try:
            json.dumps(document, ensure_ascii=False).encode("utf-8")
        except (UnicodeEncodeError, RecursionError):
            raise MalformedJson("The body contains a lone surrogate, which is not text.") from None
    return document


class _Objects:
    """Makes the objects of one text, and counts what is in them.

    Validation inspects every item before it counts them, and notes what is wrong with each: anything too long for any
    field, and too much of it altogether, is refused first.
    """

    def __init__(self) -> None:
        self._values = 0

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        longest = max((len(value) for _, value in pairs if type(value) is list), default=0)
        if len(pairs) > _MAX_KEYS or longest > _MAX_ITEMS:
            raise InvalidRequest("An array or object in the body is longer than this call accepts anywhere.")
        self._values += 1 + len(pairs) + sum(len(value) for _, value in pairs if type(value) is list)
        if self._values > MAX_VALUES:
            raise InvalidRequest(f"The body holds more than {MAX_VALUES:,} values.")
        # Strict validation requires a tuple where the spec has one, but JSON has only arrays.
        found = {key: tuple(value) if type(value) is list else value for key, value in pairs}
        if len(found) != len(pairs):
            raise MalformedJson("An object has a duplicate key.")
        return found


def _number(text: str) -> int | float:
    """``7.0`` is the integer 7, as in JSON Schema."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedJson("The body contains NaN or infinity, which JSON does not allow.")
