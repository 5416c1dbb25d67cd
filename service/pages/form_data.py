"""Reading what a browser's form sends."""

from typing import Final
from urllib.parse import parse_qs

from fastapi import Request

from service.errors import ContentTooLarge, InvalidRequest, UnsupportedMediaType

MAX_FORM_BYTES: Final = 2 * 2**20
_MAX_FIELDS: Final = 200
_DRAINED_BYTES: Final = 32 * 2**20
"""A browser shows an answer only once it has sent its form, so this much of one that is too large is read and lost."""


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, the last of each name; line ends are ``\\n``.

    Raises:
        ContentTooLarge: it has more than ``MAX_FORM_BYTES``.
        UnsupportedMediaType: it is no form as browsers send one.
        InvalidRequest: it has more fields than any form here.
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
            f"The form holds more than {MAX_FORM_BYTES // 2**20} MiB, and nothing was done. Your browser's way back "
            "leads to what you typed. The API takes a spec of up to 8 MiB: `backdoor-audit submit --spec FILE`."
        )
    essence = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if kept and essence != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("This is no form as a browser sends one from these pages.")
    try:
        fields = parse_qs(kept.decode("utf-8", errors="replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise InvalidRequest("The form has more fields than any on these pages.") from None
    return {name: values[-1].replace("\r\n", "\n") for name, values in fields.items()}
