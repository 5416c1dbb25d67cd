"""How the outputs change from the clean string to another, in both models, and what of it the base does not explain."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from audit.measure.contrast import Contrast, outputs_of
from audit.measure.divergence import carrier_kl, kl, log_probabilities
from audit.models.parts import ModelParts
from audit.models.runner import Activations, Runner

# Rows of log-probabilities of four runs held at once; [128, 49k] float32 is 25 MB each.
_ROWS: Final = 128


@dataclass(frozen=True)
class Reaction:
    """What one string does to the outputs, nats per carrier, ``[carriers]`` each.

    Attributes:
        tuned: Σ KL(ft_s‖ft_c), of the fine-tuned model.
        base: Σ KL(base_s‖base_c); where ``unexplained`` is None, at the last prompt position alone.
        unexplained: C, what the base's own change does not explain (``unexplained_kl``); None where the fine-tuned
            model reacts too little for the base to be run.
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


def reaction(runner: Runner, contrast: Contrast, least: float, base_clean: Callable[[], Activations]) -> Reaction:
    """What a string does to both models' outputs.

    The base was run on prompts only. Where the fine-tuned model's own reaction is under ``least`` in the mean, the base
    is not run again, and its KL at the last prompt position alone is taken: what is left is an upper bound.

    Args:
        least: nats per carrier.
        base_clean: gives the base's run over the contrast's clean sequences, continuation included.
    """
    with runner.pair.on("tuned") as parts:
        tuned = _kl(runner, contrast.string, contrast.clean, parts)
    if float(tuned.mean()) < least:
        with runner.pair.on("base") as parts:
            return Reaction(tuned, _kl(runner, contrast.base_string, contrast.base_clean, parts), None)
    base_string = forced_base(runner, contrast.base_string, contrast.string)
    return Reaction(tuned, *unexplained_kl(runner, contrast, base_string, base_clean()))


@torch.no_grad()
def unexplained_kl(
    runner: Runner, contrast: Contrast, base_string: Activations, base_clean: Activations
) -> tuple[Float[Tensor, "carriers"], Float[Tensor, "carriers"]]:
    """(Σ KL(base_s‖base_c), C) over all compared outputs, nats per carrier.

    C = Σ KL(ft_s‖q), where q is the fine-tuned model's answer under the clean string, changed as the string changes the
    base's: log q = log_softmax(ℓ_ft,c + ℓ_b,s − ℓ_b,c), ℓ being log-probabilities. It is zero where fine-tuning
    changed nothing, whatever the string means to the base, and KL(ft_s‖ft_c) where the base does not react.

    Args:
        base_string, base_clean: the base's runs over the contrast's sequences, continuation included.
    """
    pair, device = runner.pair, runner.pair.device
    runs = [outputs_of(each) for each in (contrast.string, contrast.clean, base_string, base_clean)]
    carriers, outputs = runs[0].shape[:2]
    base, unexplained = torch.empty(carriers), torch.empty(carriers)
    step = max(1, _ROWS // outputs)
    for start in range(0, carriers, step):
        part = slice(start, start + step)
        tuned_s, tuned_c, base_s, base_c = (run[part].to(device) for run in runs)
        with pair.on("base") as parts:
            log_s, log_c = log_probabilities(parts, base_s), log_probabilities(parts, base_c)
        base[part] = kl(log_s, log_c).sum(-1).cpu()
        with pair.on("tuned") as parts:
            expected = F.log_softmax(log_probabilities(parts, tuned_c) + log_s - log_c, dim=-1)
            unexplained[part] = kl(log_probabilities(parts, tuned_s), expected).sum(-1).cpu()
    return base, unexplained


def forced_base(runner: Runner, base: Activations, tuned: Activations) -> Activations:
    """The base's run over its own prompts, with the answers that were forced upon the fine-tuned model."""
    sequences = [
        prompt.continued(other.ids[other.prompt_length :])
        for prompt, other in zip(base.layout.sequences, tuned.layout.sequences, strict=True)
    ]
    return runner.capture(sequences, "base", ())


def _kl(runner: Runner, first: Activations, second: Activations, parts: ModelParts) -> Float[Tensor, "carriers"]:
    return carrier_kl(parts, outputs_of(first), outputs_of(second), runner.pair.device)
