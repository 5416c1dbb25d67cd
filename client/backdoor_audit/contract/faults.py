"""What is wrong with a document, in words for whoever wrote it: where and what, never the input itself.

Pydantic speaks of its own types, and of every member of a union that it tried. Here a fault lies at a place in the
document, and only the member that was probably meant is spoken of.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from backdoor_audit.contract.spec.presets import PresetValues

_MAX_LOOKED_AT: Final = 200
"""Faults that are looked at to choose them: a body can hold ten thousand wrong prompts."""

_BOUNDS: Final = frozenset({"greater_than_equal", "less_than_equal"})
_MISFIT: Final = frozenset({"missing", "extra_forbidden"})

_WORDS: Final[Mapping[str, str]] = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "datetime_from_date_parsing": "must be a time such as 2026-11-30T09:00:00Z",
    "datetime_parsing": "must be a time such as 2026-11-30T09:00:00Z",
    "dict_type": "must be an object",
    "extra_forbidden": "is not a field here",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "missing": "is required",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "string_pattern_mismatch": "must have the form {pattern}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "must be text",
    "timezone_aware": "must have a time zone",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
    "tuple_type": "must be a list",
}
"""By pydantic's name of the fault; what is not here is said in pydantic's words."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: the keys and indices that lead to it, and what it is."""

    path: tuple[str | int, ...]
    detail: str


@dataclass(frozen=True)
class _Finding:
    path: tuple[str | int, ...]
    branch: tuple[tuple[str | int, ...], str] | None
    """The first union on the way: where it stands, and which member of it was tried."""
    kind: str
    detail: str


def faults_of(error: ValidationError, document: Any) -> tuple[Fault, ...]:
    """The faults of ``document`` (decoded JSON), each once."""
    errors = error.errors(include_url=False, include_input=False)[:_MAX_LOOKED_AT]
    findings = [_find(detail, document) for detail in errors]
    above = {finding.path[:depth] for finding in findings for depth in range(len(finding.path))}
    # Pydantic counts the valid items alone; what is wrong is one of the others.
    counted = [finding for finding in findings if not (finding.kind == "too_short" and finding.path in above)]
    return tuple(dict.fromkeys(Fault(finding.path, finding.detail) for finding in _likeliest_branches(counted)))


def words_of(error: Any) -> str:
    """What one of pydantic's errors says, in plain words."""
    context = error.get("ctx", {})
    if error["type"] == "value_error" and context.get("error") is not None:
        return str(context["error"])
    template = _WORDS.get(error["type"])
    return str(error["msg"]) if template is None else template.format_map(context)


def _find(error: ErrorDetails, document: Any) -> _Finding:
    steps = error["loc"]
    if len(steps) == 1 and steps[0] in PresetValues.model_fields and error["type"] in _BOUNDS:
        # A spec's sizes are validated by themselves, after the preset and its overrides are put together.
        steps = ("overrides", *steps)
    path: list[str | int] = []
    branch: tuple[tuple[str | int, ...], str] | None = None
    current = document
    for position, step in enumerate(steps):
        if _holds(current, step):
            current = current[step]
        elif error["type"] != "missing" or position < len(steps) - 1:
            # Not in the document: the name of a union's member, or of a validator.
            branch = branch or (tuple(path), str(step))
            continue
        path.append(step)
    return _Finding(tuple(path), branch, error["type"], words_of(error))


def _holds(value: Any, step: str | int) -> bool:
    if isinstance(step, str):
        return isinstance(value, Mapping) and step in value
    return isinstance(value, list | tuple) and step < len(value)


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
