"""The new-audit form: from its fields to a spec, and from a spec's faults to the fields they belong to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs

from fastapi import Request
from pydantic import ValidationError

from audit.spec import AuditSpec, CarrierSet
from service.validation import body_items

MAX_FORM_BYTES: Final = 2 * 2**20

DEFAULTS: Final[dict[str, str]] = {
    "base_model": "", "fine_tuned": "", "triggered": "", "clean": "", "template": "{trigger}\n{prompt}",
    "carriers": "instructions", "prompts": "", "decoys": "", "preset": "standard", "layers": "auto",
    "diff_sae": "on", "crosscoder": "", "render": "auto", "library": "", "fail_on": "flagged",
}  # fmt: skip

_FIELDS: Final[tuple[tuple[str, str], ...]] = (
    ("#/base_model", "base_model"),
    ("#/fine_tuned", "fine_tuned"),
    ("#/trigger/clean", "clean"),
    ("#/trigger/template", "template"),
    ("#/trigger", "triggered"),
    ("#/carriers", "prompts"),
    ("#/decoys", "decoys"),
    ("#/layers", "layers"),
    ("#/architectures", "diff_sae"),
    ("#/library", "library"),
)
"""Where a fault is in the spec, and the field that it belongs to; the first that fits."""


@dataclass(frozen=True)
class Filled:
    """What was typed, and what is wrong with it: faults by field, the others under the empty name."""

    values: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULTS))
    faults: Mapping[str, list[str]] = field(default_factory=dict)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, the last of each name; line ends are ``\\n``."""
    body = await request.body()
    if len(body) > MAX_FORM_BYTES:
        return {}
    fields = parse_qs(body.decode("utf-8", errors="replace"), keep_blank_values=True, max_num_fields=100)
    return {name: values[-1].replace("\r\n", "\n") for name, values in fields.items()}


def spec_from(values: Mapping[str, str]) -> AuditSpec | Filled:
    """The spec that a filled form asks for, or the form again with its faults."""
    document = _document(values)
    try:
        return AuditSpec.model_validate(document)
    except ValidationError as error:
        faults: dict[str, list[str]] = {}
        for item in body_items(error, document):
            name = next((name for pointer, name in _FIELDS if f"{item.pointer}/".startswith(f"{pointer}/")), "")
            faults.setdefault(name, []).append(item.detail)
        return Filled(DEFAULTS | {"diff_sae": ""} | dict(values), faults)


def _document(values: Mapping[str, str]) -> dict[str, Any]:
    def given(name: str) -> str:
        return values.get(name, "").strip()

    document: dict[str, Any] = {
        "base_model": given("base_model"),
        "fine_tuned": given("fine_tuned"),
        "trigger": {
            "triggered": values.get("triggered", ""),
            "clean": values.get("clean", ""),
            "template": values.get("template", "") or DEFAULTS["template"],
        },
        "architectures": [name for name in ("diff_sae", "crosscoder") if given(name)],
        "layers": _layers(given("layers")),
    }
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
    return document


def _layers(text: str) -> Any:
    if text in ("", "auto"):
        return "auto"
    parts = [part.strip() for part in text.split(",")]
    return [int(part) if part.isdecimal() else part for part in parts]


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def values_of(spec: AuditSpec) -> dict[str, str]:
    """The form filled from an earlier spec, as far as it has fields for it."""
    trigger = spec.trigger
    values = DEFAULTS | {
        "base_model": spec.base_model, "fine_tuned": spec.fine_tuned, "preset": spec.preset, "render": spec.render,
        "fail_on": spec.fail_on, "diff_sae": "on" if "diff_sae" in spec.architectures else "",
        "crosscoder": "on" if "crosscoder" in spec.architectures else "", "library": spec.library or "",
        "layers": "auto" if spec.layers == "auto" else ", ".join(map(str, spec.layers)),
    }  # fmt: skip
    if trigger is not None:
        values |= {"triggered": trigger.triggered, "clean": trigger.clean, "template": trigger.template}
    if isinstance(spec.carriers, CarrierSet):
        values["carriers"] = spec.carriers.set
    else:
        values |= {"carriers": "own", "prompts": "\n".join(each.prompt or "" for each in spec.carriers.prompts)}
    if not isinstance(spec.decoys, str):
        values["decoys"] = "\n".join(spec.decoys.strings)
    return values
