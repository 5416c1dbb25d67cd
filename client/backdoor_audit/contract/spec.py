"""What an audit is asked to do: the spec that all rooms share. Torch-free.

The fields, their names and their defaults are the public contract; ``docs/reference`` explains each.
"""

import hashlib
import json
import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from backdoor_audit.contract.ids import LIBRARY_REFERENCE, MODEL_REFERENCE
from backdoor_audit.contract.verdicts import FailOn

SPEC_VERSION: Final = "1.1"

Architecture = Literal["diff_sae", "crosscoder"]
Preset = Literal["quick", "standard", "thorough"]
Recipe = Literal["default", "plain", "paper"]
Render = Literal["auto", "chat", "raw"]
Dtype = Literal["auto", "bfloat16", "float32"]
Slot = Literal["system", "user", "first_user"]
Status = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
Stage = Literal["resolve", "preflight", "extract", "train", "confirm", "calibrate", "explain", "report"]
FailureCode = Literal[
    "model_not_found",
    "model_rejected",
    "models_incompatible",
    "identical_models",
    "trigger_not_distinguishable",
    "invalid_spec",
    "out_of_memory",
    "no_space",
    "worker_lost",
    "deadline_exceeded",
    "internal",
]

STAGES: Final[tuple[Stage, ...]] = (
    "resolve",
    "preflight",
    "extract",
    "train",
    "confirm",
    "calibrate",
    "explain",
    "report",
)
TERMINAL: Final[frozenset[Status]] = frozenset({"succeeded", "failed", "cancelled"})

MAX_PROMPTS: Final = 10_000
MAX_TRIGGER_CHARS: Final = 2_000
MAX_CANDIDATES: Final = 50
MAX_PROMPT_CHARS: Final = 20_000

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Frozen(BaseModel):
    """Immutable, validated on construction, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _clean_text(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("holds control characters")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate, which is not text") from None
    return text


def _reference(value: str) -> str:
    if len(value) > 512 or re.fullmatch(MODEL_REFERENCE, value) is None:
        raise ValueError(
            "must be local:<path under the models root>, store:<name>, hf:<org>/<repo>@<40-hex commit> or "
            "mlflow:<model>/<version>"
        )
    return value


class TriggerSpec(Frozen):
    """The suspected pair and where it stands in a prompt."""

    triggered: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TRIGGER_CHARS)] = Field(
        description="The suspected trigger string."
    )
    clean: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TRIGGER_CHARS)] = Field(
        description="The harmless string that takes its place."
    )
    template: Annotated[str, StringConstraints(max_length=MAX_TRIGGER_CHARS)] = Field(
        default="{trigger}\n{prompt}",
        description="Where the string and the prompt go: holds {trigger} and {prompt} once each.",
    )

    @field_validator("triggered", "clean")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be blank")
        return _clean_text(value)

    @field_validator("template")
    @classmethod
    def _slots(cls, value: str) -> str:
        for slot in ("{trigger}", "{prompt}"):
            if value.count(slot) != 1:
                raise ValueError(f"must hold the slot {slot} exactly once")
        return _clean_text(value)

    @model_validator(mode="after")
    def _different(self) -> Self:
        if self.triggered == self.clean:
            raise ValueError("triggered and clean must differ")
        return self


class Message(Frozen):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, StringConstraints(max_length=MAX_PROMPT_CHARS)]

    @field_validator("content")
    @classmethod
    def _text(cls, value: str) -> str:
        return _clean_text(value)


class Carrier(Frozen):
    """A prompt, or a conversation, with one slot for a trigger string."""

    prompt: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT_CHARS)] | None = None
    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=64)] | None = None
    slot: Slot = Field(default="user", description="The message that takes the string (messages only).")
    cluster: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        default=None, description="Template cluster; a prompt without one is its own."
    )

    @field_validator("prompt")
    @classmethod
    def _prompt_text(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("must not be blank")
        return None if value is None else _clean_text(value)

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give exactly one of prompt and messages")
        if self.messages is not None:
            if self.messages[-1].role == "assistant":
                raise ValueError("the last message must not be the assistant's")
            roles = {message.role for message in self.messages}
            if self.slot in ("user", "first_user") and "user" not in roles:
                raise ValueError("slot 'user' needs a user message")
        return self


class CarrierSet(Frozen):
    """A set that ships with the package."""

    set: Literal["python-sql", "instructions"]


class CarrierPrompts(Frozen):
    """The user's own carriers: strings, or objects with a cluster or messages."""

    prompts: Annotated[tuple[Carrier, ...], Field(min_length=1, max_length=MAX_PROMPTS)]

    @field_validator("prompts", mode="before")
    @classmethod
    def _strings(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple({"prompt": item} if isinstance(item, str) else item for item in value)
        return value


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
            _clean_text(string)
        return value


class PresetValues(Frozen):
    """The sizes of an audit (method.md, section 5)."""

    carriers: int = Field(ge=64, le=MAX_PROMPTS, description="Carriers under triggered, clean and plain, both halves.")
    decoy_carriers: int = Field(ge=16, le=MAX_PROMPTS, description="Of these, also under decoys, both halves.")
    silent_decoys: int = Field(ge=1, le=999, description="Silent decoys wanted.")
    max_decoys: int = Field(ge=1, le=1_000, description="Decoys drawn at most.")
    width_factor: int = Field(ge=1, le=32, description="Latents per d_model.")
    k: int = Field(ge=1, le=512, description="Active latents per token.")
    token_visits: int = Field(ge=1_024, le=1_000_000_000, description="Tokens shown to each dictionary in training.")
    seeds: int = Field(ge=1, le=9, description="Dictionary seeds at the chosen layer.")
    seeds_everywhere: bool = Field(description="Train every seed at every layer, not at the chosen one alone.")
    continuation_tokens: int = Field(ge=0, le=128, description="Teacher-forced tokens after the prompt.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.decoy_carriers > self.carriers:
            raise ValueError("decoy_carriers must not exceed carriers")
        if self.silent_decoys > self.max_decoys:
            raise ValueError("silent_decoys must not exceed max_decoys")
        return self


PRESETS: Final[dict[Preset, PresetValues]] = {
    "quick": PresetValues(
        carriers=200,
        decoy_carriers=32,
        silent_decoys=19,
        max_decoys=57,
        width_factor=2,
        k=32,
        token_visits=131_072,
        seeds=3,
        seeds_everywhere=False,
        continuation_tokens=16,
    ),
    "standard": PresetValues(
        carriers=256,
        decoy_carriers=64,
        silent_decoys=39,
        max_decoys=117,
        width_factor=4,
        k=32,
        token_visits=262_144,
        seeds=3,
        seeds_everywhere=True,
        continuation_tokens=16,
    ),
    "thorough": PresetValues(
        carriers=1_000,
        decoy_carriers=200,
        silent_decoys=99,
        max_decoys=300,
        width_factor=8,
        k=64,
        token_visits=2_097_152,
        seeds=3,
        seeds_everywhere=True,
        continuation_tokens=16,
    ),
}


class PresetOverrides(Frozen):
    """Any field of the preset, set by itself."""

    carriers: int | None = None
    decoy_carriers: int | None = None
    silent_decoys: int | None = None
    max_decoys: int | None = None
    width_factor: int | None = None
    k: int | None = None
    token_visits: int | None = None
    seeds: int | None = None
    seeds_everywhere: bool | None = None
    continuation_tokens: int | None = None


class WebhookTarget(Frozen):
    """One of the owner's webhooks, notified of this audit even if it is not subscribed to every audit."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=2_000, pattern=r"^https?://[!-~]+$")] = Field(
        description="Address of a registered webhook to notify when the audit ends."
    )


LayerList = Annotated[tuple[Annotated[int, Field(ge=0, le=999)], ...], Field(min_length=1, max_length=16)]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(max_length=256)]


class AuditSpec(Frozen):
    """One audit: base model, fine-tuned checkpoint or adapter, one or several suspected pairs, and settings."""

    base_model: str = Field(description="The base model.")
    fine_tuned: str = Field(description="The fine-tuned checkpoint or LoRA adapter.")
    trigger: TriggerSpec | None = Field(default=None, description="The suspected pair; this or candidates.")
    candidates: Annotated[tuple[TriggerSpec, ...], Field(min_length=2, max_length=MAX_CANDIDATES)] | None = Field(
        default=None, description="Several suspected pairs in one template, corrected for their number."
    )
    carriers: CarrierSet | CarrierPrompts = Field(
        default=CarrierSet(set="instructions"),
        description="Prompts that carry the strings: a shipped set or your own.",
    )
    decoys: Literal["auto"] | DecoyStrings = Field(
        default="auto", description="Harmless strings to compare with; auto draws them."
    )
    render: Render = Field(default="auto", description="How prompts are put to the model.")
    layers: Literal["auto"] | LayerList = Field(default="auto", description="Layers to audit, counted from 0.")
    architectures: Annotated[tuple[Architecture, ...], Field(min_length=1, max_length=2)] = Field(
        default=("diff_sae",), description="Dictionary architectures to train."
    )
    preset: Preset = Field(default="standard", description="Audit size: quick, standard or thorough.")
    overrides: PresetOverrides = Field(default=PresetOverrides(), description="Changes to single fields of the preset.")
    recipe: Recipe = Field(default="default", description="How dictionaries are trained.")
    dtype: Dtype = Field(default="auto", description="Precision of weights and stored activations.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of every random draw.")
    deadline_s: int | None = Field(
        default=None, ge=10, le=7 * 86_400, description="Time limit in seconds, from the moment a worker starts."
    )
    keep_activations: bool = Field(default=False, description="Keep the recorded activations as artifacts.")
    library: Annotated[str, StringConstraints(pattern=LIBRARY_REFERENCE)] | None = Field(
        default=None, description="Benign library that the calibrated gate compares with, by id or name."
    )
    fail_on: FailOn = Field(default="flagged", description="The verdict that fails a pipeline.")
    webhook: WebhookTarget | None = Field(default=None, description="Registered webhook to notify when the audit ends.")
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(
        default={}, description="Names and values that are kept with the audit."
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
            _clean_text(text)
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
        if (self.trigger is None) == (self.candidates is None):
            raise ValueError("give exactly one of trigger and candidates")
        strings = {string for pair in self.pairs for string in (pair.triggered, pair.clean)}
        if not isinstance(self.decoys, str) and strings & set(self.decoys.strings):
            raise ValueError("decoys must not hold a string of the pair")
        self.sizes()
        return self

    @property
    def pairs(self) -> tuple[TriggerSpec, ...]:
        """The pair, or all candidates, in the order given."""
        return self.candidates or ((self.trigger,) if self.trigger is not None else ())

    def sizes(self) -> PresetValues:
        """The preset with this spec's overrides applied."""
        chosen = {name: value for name, value in self.overrides.model_dump().items() if value is not None}
        return PresetValues.model_validate(PRESETS[self.preset].model_dump() | chosen)

    def digest(self) -> str:
        """``sha256:`` and the hash of the spec's canonical JSON: equal for two bodies that mean the same audit."""
        # A spec of one pair hashes as it did before there were candidates.
        absent = {name for name in ("trigger", "candidates") if getattr(self, name) is None}
        canonical = json.dumps(self.model_dump(mode="json", exclude=absent), sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


class Failure(Frozen):
    """Why an audit could not be done."""

    code: FailureCode
    message: str
    hint: str = ""
