"""Page tokens: where a listing continues, tied to the listing and its filters."""

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Final

from jobs.errors import InvalidPageToken

MAX_PAGE_SIZE: Final = 200
_MARK_BYTES: Final = 6


def mark(*filters: str | None) -> bytes:
    """Return a short digest of the filters: it ties a token to its listing, and catches tokens that were typed."""
    return hashlib.sha256(repr(filters).encode()).digest()[:_MARK_BYTES]


def token(last_id: str, of: bytes) -> str:
    """Return the token of the page after ``last_id``, in the listing with the mark ``of``."""
    return base64.urlsafe_b64encode(of + last_id.encode()).decode().rstrip("=")


def last_id(page_token: str, of: bytes, is_id: Callable[[str], bool]) -> str:
    """Return the id that the page of this token begins after.

    Raises:
        InvalidPageToken: the token is not one of ours, or was made for other filters.
    """
    try:
        raw = base64.b64decode(page_token.encode() + b"=" * (-len(page_token) % 4), altchars=b"-_", validate=True)
        found = raw[_MARK_BYTES:].decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidPageToken("the page token is not one that this service made") from error
    if not is_id(found):
        raise InvalidPageToken("the page token is not one that this service made")
    if raw[:_MARK_BYTES] != of:
        raise InvalidPageToken("the page token was made for a listing with other filters")
    return found
