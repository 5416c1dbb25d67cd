"""How the outputs change from the clean string to another, in both models, and what of it the base does not explain."""

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from audit.measure.activations import prompts_only
from audit.measure.contrast import Contrast, outputs_of, tuned_kl
from audit.measure.divergence import carrier_kl, kl_of_logits
from audit.models.runner import Activations, Runner

# Rows of logits of four runs held at once; [256, 49k] float32 is 50 MB each.
_ROWS: Final = 256


@dataclass(frozen=True)
class Reaction:
    """What one string does to the outputs, nats per carrier, ``[carriers]`` each.

    Attributes:
        tuned: Σ KL(ft_s‖ft_c), of the fine-tuned model.
        base: Σ KL(base_s‖base_c); where ``unexplained`` is None, at the last prompt position alone.
        unexplained: C, what the base's own change does not explain: Σ KL(ft_s‖q), and never more than ``tuned``
            (``audit.measure.expected``); None where the base was run on prompts only.
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


def reaction(runner: Runner, contrast: Contrast, tuned: Float[Tensor, "carriers"] | None = None) -> Reaction:
    """What a string does to both models' outputs.

    Where the base was run on prompts only, its KL at the last prompt position alone is taken off: what is left is an
    upper bound, and C is not measured.

    Args:
        tuned: Σ KL(ft_s‖ft_c), if it is known already.
    """
    if contrast.forced:
        return _both(runner, contrast)
    if tuned is None:
        tuned = tuned_kl(runner, contrast.string, contrast.clean)
    string, clean = prompts_only(contrast.base_string), prompts_only(contrast.base_clean)
    with runner.pair.on("base") as parts:
        return Reaction(tuned, carrier_kl(parts, outputs_of(string), outputs_of(clean), runner.pair.device), None)


@torch.no_grad()
def _both(runner: Runner, contrast: Contrast) -> Reaction:
    """The three divergences from one pass through the heads of both models."""
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


def forced_base(runner: Runner, base: Activations, tuned: Activations, layers: tuple[int, ...] = ()) -> Activations:
    """The base's run over its own prompts, with the answers that were forced upon the fine-tuned model."""
    sequences = [
        prompt.continued(other.ids[other.prompt_length :])
        for prompt, other in zip(base.layout.sequences, tuned.layout.sequences, strict=True)
    ]
    return runner.capture(sequences, "base", layers)
