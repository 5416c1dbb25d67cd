"""Streams bytes from elsewhere in pieces: the whole, or the part requested by ``Range``."""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import StreamingResponse

from service.errors import RangeNotSatisfiable

_ONE_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class RangedResponse(StreamingResponse):
    """Streams what ``read`` returns. A single range is supported; for several, the whole is sent, as RFC 9110 allows.

    The first piece is read immediately, so that an error gives an error response instead of a broken stream.

    Args:
        read: returns the bytes from a start to before a stop position, in pieces.
        size: the number of bytes.
        request: its ``Range`` and ``If-Range`` are used.
        headers: with an ``ETag``.
        media_type: media type media type media type of the whole.
        filename: name under which the file is saved.

    Raises:
        RangeNotSatisfiable: the range starts after the end.
    """

    def __init__(
        self,
        read: Callable[[int, int], Iterator[bytes]],
        size: int,
        request: Request,
        *,
        headers: Mapping[str, str],
        media_type: str,
        filename: str,
    ) -> None:
        start, stop, status = 0, size, 200
        sent = {
            **headers,
            "Accept-Ranges": "bytes",
            "Content-Disposition": f'attachment; filename="{quote(filename)}"',
        }
        wanted = request.headers.get("range")
        if wanted is not None and request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
            part = _part(wanted, size)
            if part is not None:
                (start, stop), status = part, 206
                sent["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        sent["Content-Length"] = str(stop - start)
        pieces = read(start, stop)
        first = [piece for piece in [next(pieces, None)] if piece is not None]
        super().__init__(chain(first, pieces), status_code=status, headers=sent, media_type=media_type)


def _part(wanted: str, size: int) -> tuple[int, int] | None:
    """The requested range; None if the whole is to be sent.

    Raises:
        RangeNotSatisfiable
    """
    asked = _ONE_RANGE.fullmatch(wanted.strip())
    if asked is None or not any(asked.groups()):
        return None
    first, last = asked.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    else:
        start, stop = max(size - int(last), 0), size
    if start >= size or start >= stop:
        raise RangeNotSatisfiable(size)
    return start, stop
