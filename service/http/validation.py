"""Converts pydantic's errors to those of a problem: where (a JSON pointer) and what, never the input itself."""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final, cast, get_args

from pydantic import ValidationError

from backdoor_audit.contract.faults import faults_of, words_of
from service.errors import ErrorItem, Place

_MAX_FAULTS: Final = 50_000
"""Faults that are listed to choose from them; each takes a kilobyte while they are."""
MAX_ITEMS: Final = 20
"""Maximum number of errors in one response; a client fixes the first ones and tries again."""

_SHOWN: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
"""Names that a pointer may contain. Any other key is the client's data, and the pointer ends above it."""


def body_items(error: ValidationError, body: Any) -> tuple[ErrorItem, ...]:
    """Errors in ``body`` (decoded JSON, arrays as tuples), at most ``MAX_ITEMS``."""
    if error.error_count() > _MAX_FAULTS:
        return (ErrorItem("body", "#", f"has more than {_MAX_FAULTS:,} faults"),)
    found = (ErrorItem("body", pointer(fault.path), fault.detail) for fault in faults_of(error, body))
    return tuple(islice(dict.fromkeys(found), MAX_ITEMS))


def request_items(errors: Iterable[Any]) -> tuple[ErrorItem, ...]:
    """Errors in parameters, from FastAPI's list of errors."""
    items = []
    for error in errors:
        first, *path = error["loc"]
        place: Place = cast(Place, first) if first in get_args(Place) else "body"
        items.append(ErrorItem(place, pointer(path), words_of(error)))
    return tuple(items[:MAX_ITEMS])


def pointer(path: Iterable[str | int]) -> str:
    """A JSON pointer in URI fragment form; it ends above the first key that could be the client's own data."""
    shown = "#"
    for segment in path:
        if isinstance(segment, str) and not _SHOWN.fullmatch(segment.lower()):
            break
        shown += f"/{segment}"
    return shown
