"""The new-audit form: from its fields to a spec, from a spec's faults to its fields, and from a spec back to it.

The first pair is the fields ``triggered`` and ``clean``; further suspected pairs are ``triggered_2`` and ``clean_2``,
and so on. With one of those filled the spec has ``candidates``, else it has ``trigger``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from backdoor_audit.contract.spec import MAX_CANDIDATES, AuditSpec, CarrierSet
from service.http.validation import body_items

DEFAULTS: Final[dict[str, str]] = {
    "base_model": "", "fine_tuned": "", "triggered": "", "clean": "", "template": "{trigger}\n{prompt}",
    "carriers": "instructions", "prompts": "", "decoys": "", "preset": "standard", "layers": "auto",
    "diff_sae": "on", "crosscoder": "", "render": "auto", "library": "", "fail_on": "flagged", "silent_decoys": "",
    "max_decoys": "",
}  # fmt: skip

_FIELDS: Final[tuple[tuple[str, str], ...]] = (
    ("#/base_model", "base_model"),
    ("#/fine_tuned", "fine_tuned"),
    ("#/trigger/clean", "clean"),
    ("#/trigger/template", "template"),
    ("#/trigger", "triggered"),
    ("#/candidates", "candidates"),
    ("#/carriers", "prompts"),
    ("#/decoys", "decoys"),
    ("#/layers", "layers"),
    ("#/architectures", "diff_sae"),
    ("#/library", "library"),
    ("#/overrides/silent_decoys", "silent_decoys"),
    ("#/overrides/max_decoys", "max_decoys"),
)
"""Where a fault is in the spec, and the field that it belongs to; the first that fits."""

_OVERRIDES: Final = ("silent_decoys", "max_decoys")
_ROW: Final = re.compile(r"(?:triggered|clean)_([1-9][0-9]{0,2})")
_CANDIDATE: Final = re.compile(r"#/candidates/([0-9]+)(?:/(\w+))?")
_MORE_ROWS: Final = 5


@dataclass(frozen=True)
class Filled:
    """What was typed, and what is wrong with it: faults by field, the others under the empty name."""

    values: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULTS))
    faults: Mapping[str, list[str]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    """Fields of an earlier spec that the form has nothing for."""

    @property
    def rows(self) -> tuple[int, ...]:
        """The numbers of the rows for further suspected pairs."""
        return tuple(range(2, max(_rows(self.values), default=1) + 1))


def spec_from(values: Mapping[str, str]) -> AuditSpec | Filled:
    """The spec that a filled form asks for, or the form again with its faults."""
    document, rows = _document(values)
    try:
        return AuditSpec.model_validate(document)
    except ValidationError as error:
        faults: dict[str, list[str]] = {}
        for item in body_items(error, document):
            said = faults.setdefault(_field_of(item.pointer, rows), [])
            if item.detail not in said:
                said.append(item.detail)
        return Filled(as_typed(values), faults)


def as_typed(values: Mapping[str, str]) -> dict[str, str]:
    """The form's values as they were sent: a box that was not ticked is not sent at all."""
    return DEFAULTS | {"diff_sae": ""} | dict(values)


def with_more_rows(values: Mapping[str, str]) -> Filled:
    """The form as it was typed, with more rows for suspected pairs."""
    last = min(max(_rows(values), default=1) + _MORE_ROWS, MAX_CANDIDATES)
    return Filled(as_typed(values) | {f"triggered_{last}": values.get(f"triggered_{last}", "")})


def _rows(values: Mapping[str, str]) -> list[int]:
    """Numbers of the rows beyond the first that the form has."""
    numbers = {int(match[1]) for name in values if (match := _ROW.fullmatch(name))}
    return sorted(number for number in numbers if 2 <= number <= MAX_CANDIDATES)


def _field_of(pointer: str, rows: list[int]) -> str:
    """The field that a fault of the spec belongs to.

    Args:
        rows: the form's row of each candidate.
    """
    if match := _CANDIDATE.fullmatch(pointer):
        row, part = rows[int(match[1])], match[2] or "triggered"
        return part if part == "template" or row == 1 else f"{part}_{row}"
    return next((name for start, name in _FIELDS if f"{pointer}/".startswith(f"{start}/")), "")


def _document(values: Mapping[str, str]) -> tuple[dict[str, Any], list[int]]:
    """The spec's JSON, and the form's row of each candidate."""

    def given(name: str) -> str:
        return values.get(name, "").strip()

    def pair(suffix: str) -> dict[str, str]:
        strings = {name: values.get(f"{name}{suffix}", "") for name in ("triggered", "clean")}
        return strings | {"template": values.get("template", "") or DEFAULTS["template"]}

    document: dict[str, Any] = {
        "base_model": given("base_model"),
        "fine_tuned": given("fine_tuned"),
        "architectures": [name for name in ("diff_sae", "crosscoder") if given(name)],
        "layers": _layers(given("layers")),
    }
    more = [row for row in _rows(values) if given(f"triggered_{row}") or given(f"clean_{row}")]
    if more:
        document["candidates"] = [pair(""), *(pair(f"_{row}") for row in more)]
    else:
        document["trigger"] = pair("")
    document |= {name: given(name) for name in ("preset", "render", "fail_on") if given(name)}
    prompts, decoys = _lines(values.get("prompts", "")), _lines(values.get("decoys", ""))
    if given("carriers") == "own":
        document["carriers"] = {"prompts": prompts}
    elif given("carriers"):
        document["carriers"] = {"set": given("carriers")}
    if decoys:
        document["decoys"] = {"strings": decoys}
    if given("library"):
        document["library"] = given("library")
    overrides = {name: _number(given(name)) for name in _OVERRIDES if given(name)}
    if overrides:
        document["overrides"] = overrides
    return document, [1, *more]


def _layers(text: str) -> Any:
    if text in ("", "auto"):
        return "auto"
    return [_number(part.strip()) for part in text.split(",")]


def _number(text: str) -> int | str:
    # Nine digits are more than any of these numbers may have; a longer text is refused by its kind.
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else text


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def filled_like(spec: AuditSpec) -> Filled:
    """The form filled from an earlier spec, and the names of what it has no fields for."""
    values = _values_of(spec)
    again = spec_from(values)
    if isinstance(again, Filled):
        return Filled(values, left_out=("some of its prompts or strings",))
    had, has = spec.model_dump(), again.model_dump()
    overrides = {name for name, value in had["overrides"].items() if value != has["overrides"][name]}
    names = sorted(name for name in had if name != "overrides" and had[name] != has[name])
    return Filled(values, left_out=(*names, *sorted(overrides)))


def _values_of(spec: AuditSpec) -> dict[str, str]:
    values = DEFAULTS | {
        "base_model": spec.base_model, "fine_tuned": spec.fine_tuned, "preset": spec.preset, "render": spec.render,
        "fail_on": spec.fail_on, "diff_sae": "on" if "diff_sae" in spec.architectures else "",
        "crosscoder": "on" if "crosscoder" in spec.architectures else "", "library": spec.library or "",
        "layers": "auto" if spec.layers == "auto" else ", ".join(map(str, spec.layers)),
        "template": spec.pairs[0].template,
    }  # fmt: skip
    for row, pair in enumerate(spec.pairs, start=1):
        suffix = "" if row == 1 else f"_{row}"
        values |= {f"triggered{suffix}": pair.triggered, f"clean{suffix}": pair.clean}
    for name in _OVERRIDES:
        value = getattr(spec.overrides, name)
        values[name] = "" if value is None else str(value)
    if isinstance(spec.carriers, CarrierSet):
        values["carriers"] = spec.carriers.set
    else:
        values |= {"carriers": "own", "prompts": "\n".join(each.prompt or "" for each in spec.carriers.prompts)}
    if not isinstance(spec.decoys, str):
        values["decoys"] = "\n".join(spec.decoys.strings)
    return values
