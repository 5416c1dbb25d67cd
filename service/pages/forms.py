"""The form for a new audit: converts fields to a spec, assigns a spec's errors to fields, and fills the form from a
spec.

Its fields are the rows of ``SPEC_OPTIONS`` that have a label, each named like the spec's field. How a value is read and
written follows from the row's kind. Three kinds have more than one field: a choice of several words has one box for
each word, the carriers have ``prompts`` for the user's own, and the pairs have rows: the first is ``triggered`` and
``clean``, further ones are ``triggered_2`` and ``clean_2``, and so on. With one of those filled the spec has
``candidates``, otherwise it has ``trigger``. With the box ``searching`` ticked it has ``search`` and no pair.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from backdoor_audit.contract.spec.audit_spec import MAX_CANDIDATES, AuditSpec, DecoyStrings
from backdoor_audit.contract.spec.carriers import CarrierSet
from backdoor_audit.contract.spec.options import SPEC_OPTIONS, Kind, SpecOption
from backdoor_audit.contract.text.text_files import lines_of
from service.errors import ErrorItem
from service.http.validation import body_items

OPTIONS: Final[tuple[SpecOption, ...]] = tuple(option for option in SPEC_OPTIONS if option.label)
LABELS: Final[dict[str, str]] = {option.form_name: option.label for option in OPTIONS} | {"prompts": "own prompts"}

_SIMPLE: Final = tuple(option for option in OPTIONS if option.group not in ("trigger", "search"))
_SEARCH: Final = tuple(option for option in OPTIONS if option.group == "search")
_TEMPLATE: Final = next(option.default for option in OPTIONS if option.field == "trigger.template")
_ROW: Final = re.compile(r"(?:triggered|clean)_([1-9][0-9]{0,2})")
_CANDIDATE: Final = re.compile(r"#/candidates/([0-9]+)(?:/(\w+))?")
_MORE_ROWS: Final = 5


def _integer(text: str) -> int | str:
    # Nine digits are more than any of these numbers may have; longer text is rejected by its kind.
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else text


def _layers(text: str) -> Any:
    return "auto" if text == "auto" else [_integer(part.strip()) for part in text.split(",")]


def _labels(text: str) -> dict[str, str | None]:
    """Names and values; a line that is no ``NAME=VALUE`` has no value, which the spec refuses."""
    parts = [line.partition("=") for line in lines_of(text) if line.strip()]
    return {name.strip(): value.strip() if equals else None for name, equals, value in parts}


_READERS: Final[dict[Kind, Callable[[str], Any]]] = {
    "integer": _integer,
    "layers": _layers,
    "strings": lambda text: {"strings": lines_of(text)},
    "lines": lines_of,
    "labels": _labels,
}
"""Convert a field's text to the value in the spec's JSON; for other kinds, the text itself."""


def _written(value: Any) -> str:
    """A value of the spec as a person would type it."""
    if value is None or isinstance(value, DecoyStrings):
        return "" if value is None else "\n".join(value.strings)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _fields_of(option: SpecOption, value: Any) -> dict[str, str]:
    """The form's fields that hold ``value``."""
    if option.kind == "names":
        return {word: "on" if word in (value or ()) else "" for word in option.choices}
    if option.kind == "carriers":
        if isinstance(value, CarrierSet):
            return {option.form_name: value.set, "prompts": ""}
        return {option.form_name: "own", "prompts": "\n".join(each.prompt or "" for each in value.prompts)}
    if option.kind == "strings" and value == "auto":
        value = None
    if option.kind == "lines":
        value = "\n".join(value)
    if option.kind == "labels":
        value = "\n".join(f"{name}={text}" for name, text in value.items())
    return {option.form_name: _written(value)}


DEFAULTS: Final[dict[str, str]] = {"triggered": "", "clean": "", "template": _TEMPLATE, "searching": ""} | {
    name: text for option in (*_SEARCH, *_SIMPLE) for name, text in _fields_of(option, option.default).items()
}
_BOXES: Final = {"searching": ""} | {
    word: "" for option in OPTIONS if option.kind == "names" for word in option.choices
}


@dataclass(frozen=True)
class Filled:
    """What was typed, and what is wrong with it: faults by field, the others under the empty name."""

    values: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULTS))
    faults: Mapping[str, list[str]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    """Fields of an earlier spec for which the form has no field."""

    @property
    def rows(self) -> tuple[int, ...]:
        """The numbers of the rows for further suspected pairs."""
        return tuple(range(2, max(_rows(self.values), default=1) + 1))


def spec_from(values: Mapping[str, str]) -> AuditSpec | Filled:
    """The spec that a filled form describes, or the form again with its faults."""
    document, rows = _document(values)
    try:
        return AuditSpec.model_validate(document)
    except ValidationError as error:
        return Filled(as_typed(values), _faults(body_items(error, document), rows))


def with_faults(values: Mapping[str, str], items: Iterable[ErrorItem]) -> Filled:
    """The form as typed, with the errors of a spec that could be read."""
    _, rows = _document(values)
    return Filled(as_typed(values), _faults(items, rows))


def _faults(items: Iterable[ErrorItem], rows: list[int]) -> dict[str, list[str]]:
    """What is wrong, by the form's field."""
    faults: dict[str, list[str]] = {}
    for item in items:
        said = faults.setdefault(_field_of(item.pointer, rows), [])
        if item.detail not in said:
            said.append(item.detail)
    return faults


def as_typed(values: Mapping[str, str]) -> dict[str, str]:
    """The form's values as sent: a box that was not ticked is not sent at all."""
    return DEFAULTS | _BOXES | dict(values)


def with_more_rows(values: Mapping[str, str]) -> Filled:
    """The form as typed, with more rows for suspected pairs."""
    last = min(max(_rows(values), default=1) + _MORE_ROWS, MAX_CANDIDATES)
    return Filled(as_typed(values) | {f"triggered_{last}": values.get(f"triggered_{last}", "")})


def _rows(values: Mapping[str, str]) -> list[int]:
    """Numbers of the rows beyond the first that the form has."""
    numbers = {int(match[1]) for name in values if (match := _ROW.fullmatch(name))}
    return sorted(number for number in numbers if 2 <= number <= MAX_CANDIDATES)


def _field_of(pointer: str, rows: list[int]) -> str:
    """The field that an error in the spec belongs to.

    Args:
        rows: the form's row of each candidate.
    """
    if match := _CANDIDATE.fullmatch(pointer):
        row, part = rows[int(match[1])], match[2] or "triggered"
        return part if part == "template" or row == 1 else f"{part}_{row}"
    for option in OPTIONS:
        if f"{pointer}/".startswith(f"#/{option.field.replace('.', '/')}/"):
            return "prompts" if option.kind == "carriers" else option.form_name
    if pointer.startswith("#/search"):
        return "searching"
    return "triggered" if pointer.startswith("#/trigger") else ""


def _document(values: Mapping[str, str]) -> tuple[dict[str, Any], list[int]]:
    """The spec's JSON, and the form's row of each candidate."""

    strings = ("triggered", "clean")

    def pair(suffix: str) -> dict[str, str]:
        typed = {name: values.get(f"{name}{suffix}", "") for name in strings}
        return typed | {"template": values.get("template", "") or _TEMPLATE}

    more = [row for row in _rows(values) if any(values.get(f"{name}_{row}", "").strip() for name in strings)]
    document: dict[str, Any] = {"trigger": pair("")}
    if more:
        document = {"candidates": [pair(""), *(pair(f"_{row}") for row in more)]}
    searching = bool(values.get("searching", "").strip())
    if searching:
        if not any(values.get(name, "").strip() for name in strings) and not more:
            document = {}
        document["search"] = {}
    for option in (*(_SEARCH if searching else ()), *_SIMPLE):
        value = _value_of(option, values)
        outer, _, inner = option.field.partition(".")
        if value is not None and inner:
            document.setdefault(outer, {})[inner] = value
        elif value is not None:
            document[outer] = value
    return document, [1, *more]


def _value_of(option: SpecOption, values: Mapping[str, str]) -> Any:
    """A field's value in the spec's JSON; None for an empty one, which leaves the spec's default."""
    text = values.get(option.form_name, "").strip()
    if option.kind == "names":
        return [word for word in option.choices if values.get(word, "").strip()]
    if option.kind == "carriers" and text:
        return {"prompts": lines_of(values.get("prompts", ""))} if text == "own" else {"set": text}
    if option.kind == "reference":
        return text
    return _READERS.get(option.kind, str)(text) if text else None


def filled_like(spec: AuditSpec) -> Filled:
    """The form filled from an earlier spec, and the names of settings without a form field."""
    values = _values_of(spec)
    again = spec_from(values)
    if isinstance(again, Filled):
        return Filled(values, left_out=("some of its prompts or strings",))
    had, has = spec.model_dump(), again.model_dump()
    overrides = {name for name, value in had["overrides"].items() if value != has["overrides"][name]}
    names = sorted(name for name in had if name != "overrides" and had[name] != has[name])
    return Filled(values, left_out=(*names, *sorted(overrides)))


def _values_of(spec: AuditSpec) -> dict[str, str]:
    values = {"template": spec.pairs[0].template} if spec.pairs else {"searching": "on"}
    for row, pair in enumerate(spec.pairs, start=1):
        suffix = "" if row == 1 else f"_{row}"
        values |= {f"triggered{suffix}": pair.triggered, f"clean{suffix}": pair.clean}
    for option in (*(_SEARCH if spec.search else ()), *_SIMPLE):
        outer, _, inner = option.field.partition(".")
        value = getattr(spec, outer)
        values |= _fields_of(option, getattr(value, inner) if inner else value)
    return DEFAULTS | values
