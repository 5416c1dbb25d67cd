"""How far the activation difference of one string stands out from those of ordinary strings.

Δ is the fine-tuned model's activation minus the base's, at one layer. Fine-tuning moves every string somewhat, along a
few shared directions; a string, or a part of one, that training treated specially moves elsewhere, or much further.
"""

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

DIRECTIONS: Final = 24
"""Leading directions of the background that are whitened."""
RESIDUAL_WEIGHT: Final = 3.0
"""What the share outside these directions counts, in units of its mean over the background."""


@dataclass(frozen=True)
class Background:
    """The Δ of ordinary strings in the same slot: mean, leading directions, and what is left.

    Attributes:
        mean: of the background.
        basis: its leading principal directions, orthonormal columns.
        variances: along them.
        floor: the next variance, which shrinks the others: the smallest directions of a small sample are too small.
        residual: mean squared length outside them.
        scale: the mean of the raw score over the background itself.
    """

    mean: Float[Tensor, "d_model"]
    basis: Float[Tensor, "d_model directions"]
    variances: Float[Tensor, "directions"]
    floor: float
    residual: float
    scale: float

    @classmethod
    def of(cls, deltas: Float[Tensor, "strings d_model"], directions: int = DIRECTIONS) -> "Background":
        """Fit the background; with fewer strings than directions, half as many directions as strings are used."""
        count = min(directions, len(deltas) // 2, deltas.shape[1] - 1)
        rows = deltas.double()
        mean = rows.mean(0)
        centred = rows - mean
        _, singular, right = torch.linalg.svd(centred, full_matrices=False)
        variances = singular.square() / len(rows)
        basis = right[:count].T
        outside = (centred - centred @ basis @ basis.T).square().sum(1)
        tiny = float(torch.finfo(torch.float64).tiny)
        fitted = cls(
            mean, basis, variances[:count], max(float(variances[count]), tiny), max(float(outside.mean()), tiny), 1.0
        )
        scale = max(float(fitted.scores(rows).mean()), tiny)
        return cls(mean, basis, variances[:count], fitted.floor, fitted.residual, scale)

    def scores(self, deltas: Float[Tensor, "strings d_model"]) -> Float[Tensor, "strings"]:
        """The outlier score: 1 on average over the background.

        Σ (uᵢ·(Δ − μ))² / (λᵢ + λ₂₅) over the leading 24 directions, plus three times the squared length outside them
        in units of its mean.
        """
        centred = deltas.double() - self.mean
        along = centred @ self.basis
        whitened = (along.square() / (self.variances + self.floor)).sum(1)
        outside = (centred - along @ self.basis.T).square().sum(1)
        return ((whitened + RESIDUAL_WEIGHT * outside / self.residual) / self.scale).float()
