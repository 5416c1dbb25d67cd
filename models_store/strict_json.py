"""JSON from files nobody trusts: one meaning for every key, finite numbers, bounded depth and size."""

import json
import math
from pathlib import Path
from typing import Any, Final, NoReturn

from models_store.errors import ModelRejected
from models_store.files import open_regular, shown

MAX_DEPTH: Final = 8
# Most objects, lists and commas in one document: more than any tokenizer has, and what a second can parse.
_MOST: Final = {b"{": 100_000, b"[": 1_500_000, b",": 5_000_000}


class _Refused(ValueError):
    """A document that is JSON to lenient parsers, but not to us; the text says why."""


def read_object(path: Path, name: str, *, limit: int, depth: int | None = MAX_DEPTH) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: the real file.
        name: its name, for messages.
        limit: the most bytes it may have.
        depth: the deepest nesting allowed; None leaves it to the parser's own limit, for large vocabularies.

    Raises:
        ModelRejected: not UTF-8, not JSON, not an object, a key twice, NaN or infinity, too deep, too large.
    """
    with open_regular(path, name) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ModelRejected(f"{shown(name)}: has more than {limit} bytes", hint="make it smaller")
    return parse_object(data, name, depth=depth)


def parse_object(data: bytes, name: str, *, depth: int | None = MAX_DEPTH) -> dict[str, Any]:
    """Parse one JSON object; arguments and errors as in ``read_object``."""
    try:
        if any(data.count(character) > most for character, most in _MOST.items()):
            raise _Refused("holds more entries than are read")
        value = json.loads(
            data.decode("utf-8"),
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
