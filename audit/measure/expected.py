"""What the base says that a string should do to the fine-tuned model's answers, and divergences from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from audit.measure.divergence import kl, kl_of_logits, log_probabilities
from audit.models.pair import ModelPair
from audit.models.parts import ModelParts

# Rows of logits held at once, of five runs; [256, 49k] float32 is 50 MB each.
_ROWS: Final = 256


@dataclass(frozen=True)
class Expected:
    """The outputs that the base predicts for the fine-tuned model under a string.

    log q = log_softmax(ℓ_ft,c + ℓ_b,s − ℓ_b,c): the fine-tuned model's answer under the clean string, changed as the
    string changes the base's. Where fine-tuning changed nothing, q is the fine-tuned model's answer under the string.

    Attributes:
        pair: both models.
        clean: the fine-tuned model's head inputs under the clean string.
        base_string, base_clean: the base's under both strings, over the same outputs.
    """

    pair: ModelPair
    clean: Float[Tensor, "carriers outputs d_model"]
    base_string: Float[Tensor, "carriers outputs d_model"]
    base_clean: Float[Tensor, "carriers outputs d_model"]

    @torch.no_grad()
    def logits(self, carriers: slice | list[int]) -> Float[Tensor, "rows vocabulary"]:
        """Logits of q at every compared output of some carriers."""
        device = self.pair.device
        clean, base_s, base_c = (
            run[carriers].flatten(0, 1).to(device) for run in (self.clean, self.base_string, self.base_clean)
        )
        with self.pair.on("base") as parts:
            change = parts.logits(base_s) - parts.logits(base_c)
        with self.pair.on("tuned") as parts:
            return parts.logits(clean) + change

    @torch.no_grad()
    def kls(self, runs: Sequence[Float[Tensor, "carriers outputs d_model"]]) -> list[Float[Tensor, "carriers"]]:
        """Σ KL(run‖q) over the compared outputs, nats per carrier, of runs of the fine-tuned model."""
        carriers, outputs = self.clean.shape[:2]
        found = [torch.empty(carriers) for _ in runs]
        step = max(1, _ROWS // outputs)
        for start in range(0, carriers, step):
            part = slice(start, start + step)
            wanted = self.logits(part)
            with self.pair.on("tuned") as parts:
                for out, run in zip(found, runs, strict=True):
                    logits = parts.logits(run[part].flatten(0, 1).to(self.pair.device))
                    out[part] = kl_of_logits(logits, wanted).reshape(-1, outputs).sum(-1).cpu()
        return found

    def divergence(self, parts: ModelParts, group: list[int], final: Tensor) -> Float[Tensor, ""]:
        """Loss for gradients: Σ KL(run‖q) over a group's carriers, q held fixed."""
        return kl(log_probabilities(parts, final), self._log_q(group, final)).sum()

    def symmetric_divergence(self, parts: ModelParts, group: list[int], final: Tensor) -> Float[Tensor, ""]:
        """Loss for gradients: Σ KL(run‖q) + KL(q‖run) = Σ (p − q)·(log p − log q).

        The gradient of the first part alone vanishes where the run is certain of its answer; that of the second, p − q,
        is largest there.
        """
        log_q = self._log_q(group, final)
        log_p = log_probabilities(parts, final)
        return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum()

    def _log_q(self, group: list[int], final: Tensor) -> Float[Tensor, "group outputs vocabulary"]:
        return self.logits(group).log_softmax(-1).reshape(*final.shape[:2], -1)
