"""JSON from files nobody trusts: one meaning for every key, finite numbers, bounded depth and size."""

import codecs
import json
import math
import re
from pathlib import Path
from typing import Any, Final, NoReturn

from models_store.errors import ModelRejected
from models_store.files import open_regular, refuse_pointer, shown

MAX_DEPTH: Final = 8
# Most objects, members, lists and commas in one document: more than any tokenizer has, and what a second can parse.
_MOST: Final = {b"{": 100_000, b'":': 1_000_000, b"[": 1_000_000, b",": 4_000_000}
# What a member, a list and another value take in memory, bytes (measured on CPython 3.11, 64 bits), and the most that a
# document may take. The bytes of the file are held twice, as they are and as a string.
_MEMBER_BYTES: Final = 260
_LIST_BYTES: Final = 90
_VALUE_BYTES: Final = 72
_MOST_MEMORY: Final = 256 * 1024**2
# A string with an escaped character has the width of its widest, and is put together from a copy of its parts.
_WIDE: Final = ((4, re.compile(rb"\\u[dD][89abAB]")), (2, re.compile(rb"\\u(?!00)")))
_CHUNK_BYTES: Final = 1024**2


class _Refused(ValueError):
    """A document that is JSON to lenient parsers, but not to us; the text says why."""


def read_object(
    path: Path, name: str, *, limit: int, depth: int | None = MAX_DEPTH, large: bool = False
) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: the real file.
        name: its name, for messages.
        limit: the most bytes it may have.
        depth: the deepest nesting allowed; None leaves it to the parser's own limit, for large vocabularies.
        large: leave what is not ASCII undecoded, one character for each byte: CPython would give every character of
            the document the room of its widest.

    Raises:
        ModelRejected: not UTF-8, not JSON, not an object, a key twice, NaN or infinity, too deep, too large.
    """
    with open_regular(path, name) as file:
        data = file.read(limit + 1)
    refuse_pointer(data, name)
    if len(data) > limit:
        raise ModelRejected(f"{shown(name)}: has more than {limit} bytes", hint="make it smaller")
    return parse_object(data, name, depth=depth, large=large)


def parse_object(data: bytes, name: str, *, depth: int | None = MAX_DEPTH, large: bool = False) -> dict[str, Any]:
    """Parse one JSON object; arguments and errors as in ``read_object``."""
    try:
        _refuse_many(data)
        if large:
            _check_utf8(data)
        value = json.loads(
            data.decode("latin-1" if large else "utf-8"),
            object_pairs_hook=_without_repeats,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        if not isinstance(value, dict):
            raise _Refused("does not hold a JSON object")
        if depth is not None and _depth(value) > depth:
            raise _Refused(f"is nested deeper than {depth}")
    except _Refused as error:
        raise ModelRejected(
            f"{shown(name)}: {error}", hint="write the file again with the library it came from"
        ) from None
    except RecursionError as error:
        raise ModelRejected(f"{shown(name)}: is nested too deep", hint="replace the file") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise ModelRejected(
            f"{shown(name)}: is not valid JSON", hint="the file may be truncated: copy or download it again"
        ) from error
    return value


def _refuse_many(data: bytes) -> None:
    """Bound time and memory before anything is parsed."""
    objects, members, lists, commas = (data.count(token) for token in _MOST)
    if any(count > most for count, most in zip((objects, members, lists, commas), _MOST.values(), strict=True)):
        raise _Refused("holds more entries than are read")
    values = max(commas - members - lists, 0)
    copies = next((3 + width for width, escape in _WIDE if escape.search(data)), 2)
    needed = copies * len(data) + members * _MEMBER_BYTES + lists * _LIST_BYTES + values * _VALUE_BYTES
    if needed > _MOST_MEMORY:
        raise _Refused("would take more memory than is given to it")


def _check_utf8(data: bytes) -> None:
    """Raise ``UnicodeDecodeError`` where it is not UTF-8, without holding the text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), _CHUNK_BYTES):
        decoder.decode(data[start : start + _CHUNK_BYTES])
    decoder.decode(b"", final=True)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused(f"holds the key '{shown(repeated)}' twice")
    return result


def _no_constant(text: str) -> NoReturn:
    raise _Refused(f"holds {text}, which is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused("holds a number beyond what a float can hold")
    return value


def _depth(value: Any) -> int:
    deepest = 0
    pending = [(value, 1)]
    while pending:
        current, level = pending.pop()
        deepest = max(deepest, level)
        children = current.values() if isinstance(current, dict) else current
        pending.extend((child, level + 1) for child in children if isinstance(child, dict | list))
    return deepest
