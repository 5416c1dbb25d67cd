"""What pydantic found, as findings for a problem: where (a JSON pointer) and what, never the input itself."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from backdoor_audit.contract.spec.presets import PresetValues
from service.errors import ErrorItem, Place

MAX_ITEMS: Final = 20
"""Findings in one answer; a client mends the first ones and asks again."""

_MAX_LOOKED_AT: Final = 200
"""Findings that are looked at to choose them: a body can hold ten thousand wrong prompts."""

_SHOWN: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
"""Names that a pointer may repeat. Anything else in a key is the client's data, and the pointer ends above it."""

_BOUNDS: Final = frozenset({"greater_than_equal", "less_than_equal"})
_MISFIT: Final = frozenset({"missing", "extra_forbidden"})


@dataclass(frozen=True)
class _Finding:
    path: tuple[str | int, ...]
    """Keys and indices that lead through the body."""
    branch: tuple[tuple[str | int, ...], str] | None
    """The first union on the way: where it stands, and which member of it was tried."""
    kind: str
    detail: str


def body_items(error: ValidationError, body: Any) -> tuple[ErrorItem, ...]:
    """Findings about ``body`` (decoded JSON, arrays as tuples), at most ``MAX_ITEMS``."""
    errors = error.errors(include_url=False, include_input=False)[:_MAX_LOOKED_AT]
    findings = _likeliest_branches([_find(detail, body) for detail in errors])
    above = {finding.path[:depth] for finding in findings for depth in range(len(finding.path))}
    kept: dict[tuple[str, str], ErrorItem] = {}
    for finding in findings:
        if finding.kind == "too_short" and finding.path in above:
            continue  # Pydantic counts the valid items alone; what is wrong is one of the others.
        item = ErrorItem("body", pointer(finding.path), finding.detail)
        kept.setdefault((item.pointer, item.detail), item)
    return tuple(kept.values())[:MAX_ITEMS]


def request_items(errors: Iterable[Any]) -> tuple[ErrorItem, ...]:
    """Findings about parameters, from FastAPI's list of errors."""
    items = []
    for error in errors:
        first, *path = error["loc"]
        place: Place = cast(Place, first) if first in get_args(Place) else "body"
        items.append(ErrorItem(place, pointer(path), _text(error)))
    return tuple(items[:MAX_ITEMS])


def pointer(path: Iterable[str | int]) -> str:
    """A JSON pointer in URI fragment form; it ends above the first key that could be the client's own data."""
    shown = "#"
    for segment in path:
        if isinstance(segment, str) and not _SHOWN.fullmatch(segment.lower()):
            break
        shown += f"/{segment}"
    return shown


def _find(error: ErrorDetails, body: Any) -> _Finding:
    steps = error["loc"]
    if len(steps) == 1 and steps[0] in PresetValues.model_fields and error["type"] in _BOUNDS:
        # A spec's sizes are validated by themselves, after the preset and its overrides are put together.
        steps = ("overrides", *steps)
    path: list[str | int] = []
    branch: tuple[tuple[str | int, ...], str] | None = None
    current = body
    for position, step in enumerate(steps):
        if _holds(current, step):
            current = current[step]
        elif error["type"] != "missing" or position < len(steps) - 1:
            # Not in the body: the name of a union's member, or of a validator.
            branch = branch or (tuple(path), str(step))
            continue
        path.append(step)
    return _Finding(tuple(path), branch, error["type"], _text(error))


def _holds(value: Any, step: str | int) -> bool:
    if isinstance(step, str):
        return isinstance(value, Mapping) and step in value
    return isinstance(value, list | tuple) and step < len(value)


def _text(error: Any) -> str:
    cause = error.get("ctx", {}).get("error")
    return str(cause) if error["type"] == "value_error" and cause is not None else str(error["msg"])


def _likeliest_branches(findings: list[_Finding]) -> list[_Finding]:
    """Of each union keep the members that the input was meant for, where that can be told.

    Pydantic reports every member it tried. A member that the input misses at its top (another type, a missing key, a
    foreign key) is dropped when there is one that it misses only deeper down; where all are missed at the top, those
    with the fewest findings stay.
    """
    misfits: dict[tuple[str | int, ...], Counter[str]] = {}
    for finding in findings:
        if finding.branch is not None:
            where, member = finding.branch
            depth = len(finding.path) - len(where)
            misfit = (depth == 0 and finding.kind != "value_error") or (depth == 1 and finding.kind in _MISFIT)
            misfits.setdefault(where, Counter())[member] += misfit

    def kept(finding: _Finding) -> bool:
        if finding.branch is None:
            return True
        where, member = finding.branch
        return misfits[where][member] == min(misfits[where].values())

    return [finding for finding in findings if kept(finding)]
