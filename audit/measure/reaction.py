"""How the outputs change from the clean string to another, in both models, and what of it the base does not explain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from audit.measure.contrast import Contrast, outputs_of
from audit.measure.divergence import kl_of_logits
from audit.models.runner import Activations, Runner
from audit.prompts.rendering import Tokens

# Rows of logits of four runs held at once; [256, 49k] float32 is 50 MB each.
_ROWS: Final = 256


@dataclass(frozen=True)
class Reaction:
    """What one string does to the outputs, nats per carrier, ``[carriers]`` each.

    Attributes:
        tuned: Σ KL(ft_s‖ft_c), of the fine-tuned model.
        base: Σ KL(base_s‖base_c); zero where ``unexplained`` is None.
        unexplained: C, what the base's own change does not explain: Σ KL(ft_s‖q), and never more than ``tuned``
            (``audit.measure.expected``); None where the base was not run over the forced answers.
    """

    tuned: Float[Tensor, "carriers"]
    base: Float[Tensor, "carriers"]
    unexplained: Float[Tensor, "carriers"] | None

    @property
    def output_kl(self) -> float:
        """How much more the fine-tuned model reacts than the base, in size; an upper bound where C is None."""
        return float((self.tuned - self.base).mean())

    @property
    def unexplained_kl(self) -> float | None:
        """C, mean over carriers."""
        return None if self.unexplained is None else float(self.unexplained.mean())

    @property
    def base_ratio(self) -> float | None:
        """Σ KL(base_s‖base_c) / Σ KL(ft_s‖ft_c); None where it was not measured or nothing reacts."""
        total = float(self.tuned.sum())
        return float(self.base.sum()) / total if self.unexplained is not None and total > 1e-6 else None


@torch.no_grad()
def reaction(runner: Runner, contrast: Contrast) -> Reaction:
    """What a string does to both models' outputs: three divergences from one pass through both heads."""
    pair = runner.pair
    runs = [outputs_of(run) for run in (contrast.string, contrast.clean, contrast.base_string, contrast.base_clean)]
    carriers, outputs = runs[0].shape[:2]
    found = [torch.empty(carriers) for _ in range(3)]
    step = max(1, _ROWS // outputs)
    for start in range(0, carriers, step):
        part = slice(start, start + step)
        rows = [run[part].flatten(0, 1).to(pair.device) for run in runs]
        with pair.on("tuned") as parts:
            tuned_s, tuned_c = parts.logits(rows[0]), parts.logits(rows[1])
        with pair.on("base") as parts:
            base_s, base_c = parts.logits(rows[2]), parts.logits(rows[3])
        divergences = (
            kl_of_logits(tuned_s, tuned_c),
            kl_of_logits(base_s, base_c),
            kl_of_logits(tuned_s, tuned_c + base_s - base_c),
        )
        for out, values in zip(found, divergences, strict=True):
            out[part] = values.reshape(-1, outputs).sum(-1).cpu()
    tuned, base, apart = found
    # A string to which the base reacts and the fine-tuned model does not leaves much unexplained and changes nothing.
    return Reaction(tuned, base, torch.minimum(apart, tuned))


def unforced(change: Float[Tensor, "carriers"]) -> Reaction:
    """The reaction to a string that changes the fine-tuned model's outputs so little that the base was not run.

    Args:
        change: Σ KL(ft_s‖ft_c), which bounds what the base does not explain.
    """
    return Reaction(change, torch.zeros_like(change), None)


def forced_base(
    runner: Runner, prompts: Sequence[Tokens], tuned: Activations, layers: tuple[int, ...] = ()
) -> Activations:
    """The base's run over its own prompts, with the answers that were forced upon the fine-tuned model."""
    sequences = [
        prompt.continued(other.ids[other.prompt_length :])
        for prompt, other in zip(prompts, tuned.layout.sequences, strict=True)
    ]
    return runner.capture(sequences, "base", layers)
