"""Activations at the prompt tokens from the string on: what dictionaries are trained on and features are scored on."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audit.models.layout import Layout


@dataclass(frozen=True)
class DecoyTokens:
    """Prompt activations of one decoy, by name: ``{a,b}.{tuned,base}.{layer}``."""

    tensors: dict[str, Tensor]

    def span(self, half: Literal["a", "b"], layer: int) -> "SpanTokens":
        """Prompt tokens from the string on."""
        names = (f"{half}.base.{layer}", f"{half}.tuned.{layer}", f"{half}.carrier")
        return SpanTokens(*(self.tensors[name] for name in names))

    def last_delta(self, half: Literal["a", "b"], layer: int) -> Float[Tensor, "carriers d_model"]:
        """Δ at the last prompt token, float32."""
        span = self.span(half, layer)
        last = torch.ones(len(span.carrier), dtype=torch.bool)
        last[:-1] = span.carrier[1:] != span.carrier[:-1]
        return span.tuned[last].float() - span.base[last].float()


@dataclass(frozen=True)
class SpanTokens:
    """Both models' activations at prompt tokens from the string on, and which carrier each row belongs to."""

    base: Float[Tensor, "tokens d_model"]
    tuned: Float[Tensor, "tokens d_model"]
    carrier: Int[Tensor, "tokens"]

    def pooled(self) -> "SpanTokens":
        """One row per carrier, the mean over its tokens, float32: what the seed paper's dictionaries see."""
        carriers = int(self.carrier[-1]) + 1
        counts = torch.bincount(self.carrier, minlength=carriers).unsqueeze(1)
        means = [
            torch.zeros(carriers, rows.shape[1]).index_add_(0, self.carrier, rows.float()) / counts
            for rows in (self.base, self.tuned)
        ]
        return SpanTokens(means[0], means[1], torch.arange(carriers))


@dataclass(frozen=True)
class PromptRows:
    """Prompt tokens from the string on that both models read, aligned from the right.

    Where both models read one prompt these are all of them; the fine-tuned model's own template may write more there.

    Attributes:
        tuned, base: rows in the two layouts.
        carrier: which sequence each row belongs to.
    """

    tuned: Int[Tensor, "tokens"]
    base: Int[Tensor, "tokens"]
    carrier: Int[Tensor, "tokens"]

    @classmethod
    def of(cls, tuned: Layout, base: Layout) -> "PromptRows":
        """Match sequence i of one layout with sequence i of the other."""
        ours: list[int] = []
        theirs: list[int] = []
        carrier: list[int] = []
        for index in range(len(tuned)):
            rows, others = tuned.prompt_span_rows(index), base.prompt_span_rows(index)
            length = min(len(rows), len(others))
            ours.extend(rows[len(rows) - length :])
            theirs.extend(others[len(others) - length :])
            carrier.extend([index] * length)
        return cls(*(torch.tensor(found, dtype=torch.long) for found in (ours, theirs, carrier)))
