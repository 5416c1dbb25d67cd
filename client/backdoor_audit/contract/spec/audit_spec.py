"""The spec of an audit, shared by all packages. Torch-free.

The fields, their names and their defaults are the public contract; ``docs/reference`` explains each.
"""

import hashlib
import json
import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from backdoor_audit.contract.base import Frozen, clean_text
from backdoor_audit.contract.ids import LIBRARY_REFERENCE, MODEL_REFERENCE
from backdoor_audit.contract.report.verdicts import FailOn
from backdoor_audit.contract.spec.carriers import CarrierPrompts, CarrierSet
from backdoor_audit.contract.spec.presets import PRESETS, Preset, PresetOverrides, PresetValues
from backdoor_audit.contract.spec.search import SearchSpec

SPEC_VERSION: Final = "1.2"

Architecture = Literal["diff_sae", "crosscoder"]
Recipe = Literal["default", "plain", "paper"]
Dictionaries = Literal["auto", "always"]
Render = Literal["auto", "chat", "raw"]
Dtype = Literal["auto", "bfloat16", "float32"]
MAX_TRIGGER_CHARS: Final = 2_000
MAX_CANDIDATES: Final = 50
MAX_LABELS: Final = 32


def _reference(value: str) -> str:
    if len(value) > 512 or re.fullmatch(MODEL_REFERENCE, value) is None:
        raise ValueError(
            "must be local:<path under the models root>, store:<name>, hf:<org>/<repo>@<40-hex commit> or "
            "mlflow:<model>/<version>"
        )
    return value


class TriggerSpec(Frozen):
    """The suspected pair and its place in a prompt."""

    triggered: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TRIGGER_CHARS)] = Field(
        description="The suspected trigger string."
    )
    clean: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TRIGGER_CHARS)] = Field(
        description="The clean string used in its place."
    )
    template: Annotated[str, StringConstraints(max_length=MAX_TRIGGER_CHARS)] = Field(
        default="{trigger}\n{prompt}",
        description="Where the string and the prompt go: contains {trigger} and {prompt} once each.",
    )

    @field_validator("triggered", "clean")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be blank")
        return clean_text(value)

    @field_validator("template")
    @classmethod
    def _slots(cls, value: str) -> str:
        for slot in ("{trigger}", "{prompt}"):
            if value.count(slot) != 1:
                raise ValueError(f"must hold the slot {slot} exactly once")
        return clean_text(value)

    @model_validator(mode="after")
    def _different(self) -> Self:
        if self.triggered == self.clean:
            raise ValueError("triggered and clean must differ")
        return self


class DecoyStrings(Frozen):
    """The user's own decoys, drawn in seeded order."""

    strings: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=MAX_TRIGGER_CHARS)], ...],
        Field(min_length=1, max_length=1_000),
    ]

    @field_validator("strings")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("must be distinct")
        for string in value:
            if not string.strip():
                raise ValueError("must not be blank")
            clean_text(string)
        return value


class WebhookTarget(Frozen):
    """One of the owner's webhooks, notified of this audit even if it is not subscribed to every audit."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=2_000, pattern=r"^https?://[!-~]+$")] = Field(
        description="Address of a registered webhook to notify when the audit ends."
    )


LayerList = Annotated[tuple[Annotated[int, Field(ge=0, le=999)], ...], Field(min_length=1, max_length=16)]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(max_length=256)]


class AuditSpec(Frozen):
    """One audit: base model, fine-tuned checkpoint or adapter, suspected pairs or a search for them, and settings."""

    base_model: str = Field(description="The base model.")
    fine_tuned: str = Field(description="The fine-tuned checkpoint or LoRA adapter.")
    trigger: TriggerSpec | None = Field(default=None, description="The suspected pair; this, candidates or search.")
    candidates: Annotated[tuple[TriggerSpec, ...], Field(min_length=2, max_length=MAX_CANDIDATES)] | None = Field(
        default=None, description="Several suspected pairs in one template; results are corrected for their number."
    )
    search: SearchSpec | None = Field(
        default=None, description="Search for strings that set a behaviour off, where no pair is suspected."
    )
    carriers: CarrierSet | CarrierPrompts = Field(
        default=CarrierSet(set="instructions"),
        description="Prompts that carry the strings: a shipped set or your own.",
    )
    decoys: Literal["auto"] | DecoyStrings = Field(
        default="auto", description="Harmless strings to compare with; auto generates them."
    )
    render: Render = Field(
        default="auto",
        description="How prompts are rendered: with the chat template, raw, or by what the tokenizer has.",
    )
    layers: Literal["auto"] | LayerList = Field(default="auto", description="Layers to audit, counted from 0.")
    architectures: Annotated[tuple[Architecture, ...], Field(min_length=1, max_length=2)] = Field(
        default=("diff_sae",), description="Dictionary architectures to train."
    )
    dictionaries: Dictionaries | None = Field(
        default=None,
        description="When dictionaries are trained: auto, if the outputs react to the pair, or always. By default auto "
        "with the preset quick, always with the others.",
    )
    preset: Preset = Field(default="standard", description="Audit size: quick, standard or thorough.")
    overrides: PresetOverrides = Field(default=PresetOverrides(), description="Changes to fields of the preset.")
    recipe: Recipe = Field(default="default", description="Training recipe of the dictionaries.")
    dtype: Dtype = Field(default="auto", description="Precision of weights and stored activations.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of all random draws.")
    deadline_s: int | None = Field(
        default=None, ge=10, le=7 * 86_400, description="Time limit in seconds, from the moment a worker starts."
    )
    keep_activations: bool = Field(default=False, description="Keep the recorded activations as artifacts.")
    library: Annotated[str, StringConstraints(pattern=LIBRARY_REFERENCE)] | None = Field(
        default=None, description="Benign library for the gate calibrated, by id or name."
    )
    fail_on: FailOn = Field(default="review", description="The mildest verdict that fails a pipeline.")
    webhook: WebhookTarget | None = Field(default=None, description="Registered webhook to notify when the audit ends.")
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=MAX_LABELS)] = Field(
        default={}, description="Names and values stored with the audit."
    )

    @field_validator("base_model", "fine_tuned")
    @classmethod
    def _references(cls, value: str) -> str:
        return _reference(value)

    @field_validator("layers")
    @classmethod
    def _distinct_layers(cls, value: Any) -> Any:
        if value != "auto" and len(set(value)) != len(value):
            raise ValueError("layers must be distinct")
        return value

    @field_validator("architectures")
    @classmethod
    def _distinct_architectures(cls, value: tuple[Architecture, ...]) -> tuple[Architecture, ...]:
        if len(set(value)) != len(value):
            raise ValueError("architectures must be distinct")
        return value

    @field_validator("labels")
    @classmethod
    def _label_text(cls, value: dict[str, str]) -> dict[str, str]:
        for text in value.values():
            clean_text(text)
        return value

    @field_validator("candidates")
    @classmethod
    def _one_template(cls, value: tuple[TriggerSpec, ...] | None) -> tuple[TriggerSpec, ...] | None:
        pairs = value or ()
        if len({pair.template for pair in pairs}) > 1:
            raise ValueError("candidates must have the same template")
        if len({(pair.triggered, pair.clean) for pair in pairs}) < len(pairs):
            raise ValueError("candidates must be distinct")
        return value

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.base_model == self.fine_tuned:
            raise ValueError("base_model and fine_tuned must differ")
        if sum(given is not None for given in (self.trigger, self.candidates, self.search)) != 1:
            raise ValueError("give exactly one of trigger, candidates and search")
        strings = {string for pair in self.pairs for string in (pair.triggered, pair.clean)}
        if not isinstance(self.decoys, str) and strings & set(self.decoys.strings):
            raise ValueError("decoys must not hold a string of the pair")
        self.sizes()
        return self

    @property
    def pairs(self) -> tuple[TriggerSpec, ...]:
        """The pair, or all candidates, in the order given; none where they are searched for."""
        return self.candidates or ((self.trigger,) if self.trigger is not None else ())

    @property
    def trains_dictionaries(self) -> Dictionaries:
        """When dictionaries are trained, by this spec or its preset."""
        return self.dictionaries or ("auto" if self.preset == "quick" else "always")

    def sizes(self) -> PresetValues:
        """The preset with this spec's overrides applied."""
        chosen = {name: value for name, value in self.overrides.model_dump().items() if value is not None}
        return PresetValues.model_validate(PRESETS[self.preset].model_dump() | chosen)

    def digest(self) -> str:
        """``sha256:`` and the hash of the spec's canonical JSON: equal for two bodies that mean the same audit."""
        # The digest of a spec that uses none of these fields is the same as before they were added.
        absent = {name for name in ("trigger", "candidates", "search", "dictionaries") if getattr(self, name) is None}
        canonical = json.dumps(self.model_dump(mode="json", exclude=absent), sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
