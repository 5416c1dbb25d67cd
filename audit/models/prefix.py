"""The shared prefix: the tokens that all sequences begin with are run once
(docs/decisions/0003-shared-prefix-and-fused-lora.md).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audit.models.hooks import StopForward, watch
from audit.models.layout import Layout
from audit.models.parts import ModelParts
from audit.prompts.rendering import Tokens


def common_prefix(sequences: Sequence[Tokens]) -> tuple[int, ...]:
    """Tokens that all sequences begin with, up to the first string or compared output."""
    limit = min(min(sequence.span_start, sequence.prompt_length - 1) for sequence in sequences)
    shared = sequences[0].ids[: max(0, limit)]
    for sequence in sequences[1:]:
        while sequence.ids[: len(shared)] != shared:
            shared = shared[:-1]
    return shared


def can_share_prefix(parts: ModelParts) -> bool:
    """Whether every block attends to the whole past, so that a cached prefix is valid for all of them."""
    config = parts.body.config
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return set(kinds) == {"full_attention"}
    return getattr(config, "sliding_window", None) is None


@dataclass(frozen=True)
class Prefix:
    """The tokens that all sequences of a batch begin with, typically a chat template's system message, and their run.

    A causal model computes the same for them in every sequence, so they are run once, and their keys and values are
    reused in every batch.

    Attributes:
        ids: the tokens; empty if nothing is shared.
        cache: keys and values of every block; None if nothing is shared.
        hidden: the residual stream leaving every block, ``[length, d_model]``.
    """

    ids: tuple[int, ...]
    cache: Any
    hidden: dict[int, Float[Tensor, "length d_model"]]

    @property
    def length(self) -> int:
        """Number of shared tokens."""
        return len(self.ids)

    @classmethod
    @torch.no_grad()
    def of(cls, parts: ModelParts, ids: tuple[int, ...], device: torch.device) -> "Prefix":
        """Run the shared tokens once."""
        if not ids:
            return cls((), None, {})
        with watch(parts, range(parts.n_blocks)) as seen:
            cache = parts.body(input_ids=torch.tensor([ids], device=device), use_cache=True).past_key_values
        return cls(ids, cache, {layer: value[0] for layer, value in seen.items()})

    def run(self, parts: ModelParts, ids: Int[Tensor, "group length"]) -> Tensor | None:
        """Run what follows the shared tokens; None if a watch stopped the run."""
        try:
            if self.cache is None:
                return parts.body(input_ids=ids, use_cache=False).last_hidden_state
            past = copy.deepcopy(self.cache)
            past.batch_repeat_interleave(ids.shape[0])
            return parts.body(input_ids=ids, past_key_values=past, use_cache=True).last_hidden_state
        except StopForward:
            return None


def scatter_prefix(layout: Layout, group: list[int], prefix: Prefix, layer: int, flat: Tensor) -> None:
    """Write the shared tokens' residual stream into every sequence of a group."""
    if prefix.length:
        shared = prefix.hidden[layer].to(device=flat.device, dtype=flat.dtype)
        for index in group:
            flat[layout.starts[index] : layout.starts[index] + prefix.length] = shared
