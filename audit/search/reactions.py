"""What a string does to the next token, against prompts without a string: C₁ and Z.

Both start from D, the difference in differences of log-probabilities: D_y = (log ft(y|s) − log ft(y|plain)) −
(log b(y|s) − log b(y|plain)), of the fine-tuned model ft and the base b, at the last prompt position. It is zero for
every token where fine-tuning changed nothing, whatever the string means to the base.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from audit.measure.divergence import kl, log_probabilities
from audit.models.runner import Runner

SMALLEST_DEVIATION: Final = 0.2
"""Nats. The least standard deviation of D_y over the background that Z divides by."""
# Rows of log-probabilities of both models held at once; [64, 49k] float32 is 12.5 MB each.
_ROWS: Final = 64


@dataclass(frozen=True)
class FinalStates:
    """The head's inputs of both models at the last prompt position, with a string and without."""

    tuned: Float[Tensor, "strings d_model"]
    base: Float[Tensor, "strings d_model"]
    tuned_plain: Float[Tensor, "strings d_model"]
    base_plain: Float[Tensor, "strings d_model"]

    def __len__(self) -> int:
        return len(self.tuned)


@dataclass(frozen=True)
class NextToken:
    """What some rows do to the next token.

    Attributes:
        unexplained: C₁, the audit's C (``audit.measure.reaction``) of one output: KL(ft_s‖q), log q =
            log_softmax(ℓ_ft,plain + ℓ_b,s − ℓ_b,plain), and never more than ``tuned``; nats.
        tuned, base: KL(ft_s‖ft_plain) and KL(b_s‖b_plain), nats.
        change: D; log-probabilities, nats.
    """

    unexplained: Float[Tensor, "rows"]
    tuned: Float[Tensor, "rows"]
    base: Float[Tensor, "rows"]
    change: Float[Tensor, "rows vocabulary"]


@torch.no_grad()
def next_tokens(runner: Runner, states: FinalStates) -> Iterator[tuple[slice, NextToken]]:
    """C₁ and D of all rows, some rows at a time (D of all of them would not fit into memory)."""
    pair = runner.pair
    for start in range(0, len(states), _ROWS):
        part = slice(start, min(start + _ROWS, len(states)))
        with pair.on("base") as parts:
            base_s = log_probabilities(parts, states.base[part].to(pair.device))
            base_plain = log_probabilities(parts, states.base_plain[part].to(pair.device))
        with pair.on("tuned") as parts:
            tuned_s = log_probabilities(parts, states.tuned[part].to(pair.device))
            tuned_plain = log_probabilities(parts, states.tuned_plain[part].to(pair.device))
        shift = base_s - base_plain
        apart, tuned = kl(tuned_s, F.log_softmax(tuned_plain + shift, dim=-1)), kl(tuned_s, tuned_plain)
        yield (
            part,
            NextToken(
                unexplained=torch.minimum(apart, tuned).cpu(),
                tuned=tuned.cpu(),
                base=kl(base_s, base_plain).cpu(),
                change=(tuned_s - tuned_plain - shift).cpu(),
            ),
        )


@dataclass
class Changes:
    """Mean and standard deviation over background strings of every token's D, for Z."""

    mean: Float[Tensor, "vocabulary"]
    deviation: Float[Tensor, "vocabulary"]

    @classmethod
    def of(cls, changes: Sequence[Float[Tensor, "strings vocabulary"]]) -> "Changes":
        """From D of the background, in chunks."""
        count = sum(map(len, changes))
        mean = torch.stack([part.double().sum(0) for part in changes]).sum(0) / count
        spread = torch.stack([(part.double() - mean).square().sum(0) for part in changes]).sum(0) / max(count - 1, 1)
        return cls(mean.float(), spread.sqrt().float())

    def z(self, change: Float[Tensor, "strings vocabulary"]) -> Float[Tensor, "strings"]:
        """Z = max over tokens y of (D_y − μ_y) / max(σ_y, 0.2)."""
        return ((change - self.mean) / self.deviation.clamp_min(SMALLEST_DEVIATION)).amax(-1)
