"""Page tokens of listings that the service itself divides into pages; the ledger's listings have their own."""

import base64
import binascii

from jobs.errors import InvalidPageToken


def encode(listing: str, position: str | int) -> str:
    """The token of the page after ``position`` in the listing of this name."""
    return base64.urlsafe_b64encode(f"{listing}:{position}".encode()).decode().rstrip("=")


def decode(listing: str, token: str) -> str:
    """The position that ``token`` was made for.

    Raises:
        InvalidPageToken: it is not a token of this listing.
    """
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise InvalidPageToken("not a page token") from None
    prefix, separator, position = text.partition(":")
    if prefix != listing or not separator:
        raise InvalidPageToken("not a page token of this listing")
    return position
