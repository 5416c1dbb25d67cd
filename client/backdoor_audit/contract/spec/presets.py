"""The sizes of an audit, by preset. Torch-free."""

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from backdoor_audit.contract.base import Frozen
from backdoor_audit.contract.spec.carriers import MAX_PROMPTS

Preset = Literal["quick", "standard", "thorough"]


class PresetValues(Frozen):
    """The sizes of an audit (method.md, section 5)."""

    carriers: int = Field(
        ge=64, le=MAX_PROMPTS, description="Number of carriers in both halves, shown triggered, clean and plain."
    )
    decoy_carriers: int = Field(ge=16, le=MAX_PROMPTS, description="Number of these that are also shown with decoys.")
    silent_decoys: int = Field(ge=1, le=999, description="Number of silent decoys to draw.")
    max_decoys: int = Field(ge=1, le=1_000, description="Maximum number of decoys drawn.")
    width_factor: int = Field(ge=1, le=32, description="Number of latents as a multiple of d_model.")
    k: int = Field(ge=1, le=512, description="Number of active latents per token.")
    token_visits: int = Field(
        ge=1_024, le=1_000_000_000, description="Number of tokens shown to each dictionary in training."
    )
    seeds: int = Field(ge=1, le=9, description="Number of dictionary seeds at the chosen layer.")
    seeds_everywhere: bool = Field(description="Train every seed at every layer, not only at the chosen one.")
    continuation_tokens: int = Field(ge=0, le=128, description="Number of teacher-forced tokens after the prompt.")

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
    """Fields of the preset to change."""

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
