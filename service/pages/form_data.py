"""Reads the data of a browser form, and checks it like the API."""

from typing import Any, Final, TypeVar
from urllib.parse import parse_qs

from fastapi import Request
from pydantic import BaseModel, ValidationError

from service.errors import ContentTooLarge, InvalidRequest, UnsupportedMediaType
from service.http.validation import body_items

MAX_FORM_BYTES: Final = 2 * 2**20
_MAX_FIELDS: Final = 200
_DRAINED_BYTES: Final = 32 * 2**20
"""How much of an oversized form is read and discarded: browsers show no response before they have sent everything."""

M = TypeVar("M", bound=BaseModel)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, the last of each name; line ends are ``\\n``.

    Raises:
        ContentTooLarge: it has more than ``MAX_FORM_BYTES``.
        UnsupportedMediaType: it is not URL-encoded.
        InvalidRequest: it has more fields than any of our forms.
    """
    kept, seen = bytearray(), 0
    async for part in request.stream():
        seen += len(part)
        if seen <= MAX_FORM_BYTES:
            kept += part
        elif seen > _DRAINED_BYTES:
            break
    if seen > MAX_FORM_BYTES:
        raise ContentTooLarge(
            f"The form holds more than {MAX_FORM_BYTES // 2**20} MiB and was not submitted. Go back in your browser to "
            "edit it, or submit a spec of up to 8 MiB with `backdoor-audit submit --spec FILE`."
        )
    essence = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if kept and essence != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("Send the form as application/x-www-form-urlencoded.")
    try:
        fields = parse_qs(kept.decode("utf-8", errors="replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise InvalidRequest(f"The form has more fields than the {_MAX_FIELDS} allowed.") from None
    return {name: values[-1].replace("\r\n", "\n") for name, values in fields.items()}


def checked(model: type[M], document: dict[str, Any]) -> tuple[M | None, dict[str, list[str]]]:
    """A form's fields as the API would read them, or the faults of each field."""
    try:
        return model.model_validate(document, strict=True), {}
    except ValidationError as error:
        faults: dict[str, list[str]] = {}
        for item in body_items(error, document):
            faults.setdefault(item.pointer.split("/")[1], []).append(item.detail)
        return None, faults
