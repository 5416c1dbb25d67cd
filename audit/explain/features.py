"""Which features of a dictionary carry the behaviour: chosen on half A, measured on half B."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from audit.explain.training import Trained
from audit.measure.ablation import orthonormal
from audit.measure.contrast import Contrast, Directions, Effects, effects
from audit.measure.extraction import Extraction

MAX_FEATURES: Final = 4
CANDIDATES: Final = 8
MIN_GAIN: Final = 0.02
"""The search ends when no further feature adds this share of the intact effect on A …"""
UNDONE_SHARE: Final = 0.95
"""… or when the features undo this share of it."""
_CHUNK = 4096


@dataclass(frozen=True)
class Selection:
    """The features of one dictionary that were selected on A, and what they recover on B.

    Attributes:
        indices: in order of selection.
        attribution: of every feature of the dictionary, on B, nats per carrier.
        alone, together: per selected feature, what it recovers on B alone, and together with those before it.
    """

    trained: Trained
    indices: tuple[int, ...]
    attribution: Float[Tensor, "features"]
    alone: tuple[float | None, ...]
    together: tuple[float | None, ...]

    @property
    def recovered(self) -> float | None:
        """What all of them together recover on B; None if that cannot be measured: the string changes nothing."""
        return self.together[-1] if self.together else None

    @property
    def basis(self) -> Float[Tensor, "d_model rank"]:
        """Orthonormal basis of their decoder rows."""
        return orthonormal(self.trained.dictionary.W_dec_tuned[list(self.indices)].T.cpu())


def attributions(
    rows: Float[Tensor, "features d_model"],
    did: Float[Tensor, "span d_model"],
    gradient: Float[Tensor, "span d_model"],
    carriers: int,
) -> Float[Tensor, "features"]:
    """Σ over the span of ⟨DiD, u⟩·⟨∂KL/∂h, u⟩, mean over carriers, nats, for every unit row u."""
    parts = []
    for part in torch.split(rows.float().cpu(), _CHUNK):
        parts.append(((did @ part.T) * (gradient @ part.T)).sum(0) / carriers)
    return torch.cat(parts)


def gradient_on(extraction: Extraction, contrast: Contrast, layer: int) -> Float[Tensor, "span d_model"]:
    """∂KL(ft_s‖q)/∂h at one layer over the span, q being what the base predicts."""
    string = contrast.string
    loss = contrast.expected(extraction.setup.pair).divergence
    gradients = extraction.setup.runner.gradients(string.layout, [layer], string.hidden[layer], loss)
    return gradients[layer][contrast.alignment.left]


def candidates(attribution: Float[Tensor, "features"], count: int = CANDIDATES) -> list[int]:
    """The features with the largest |attribution|, largest first."""
    return [int(index) for index in attribution.abs().topk(min(count, len(attribution))).indices]


def select(extraction: Extraction, trained: Trained, directions: Directions, gradient_b: Tensor) -> Selection:
    """Select up to ``MAX_FEATURES`` features greedily by the effect that ablating them has on A, and measure them on B.

    Args:
        gradient_b: ∂KL(run‖q)/∂h over the span on B's decoy carriers.
    """
    layer, runner = trained.layer, extraction.setup.runner
    on_a = extraction.contrast("a")
    on_b = extraction.contrast("b", decoy_carriers_only=True)
    rows = trained.dictionary.W_dec_tuned
    count_a, count_b = len(on_a.string.layout), len(on_b.string.layout)
    on_a_first_order = attributions(rows, on_a.did(layer), directions.gradient[layer], count_a)
    pool = candidates(on_a_first_order)
    chosen: list[int] = []
    reached = 0.0
    while pool and len(chosen) < MAX_FEATURES:
        trial = effects(runner, on_a, layer, [_span(rows, [*chosen, index]) for index in pool])
        best = max(range(len(pool)), key=trial.nats)
        if trial.nats(best) - reached < MIN_GAIN * float(trial.intact.mean()):
            break
        reached = trial.nats(best)
        chosen.append(pool.pop(best))
        if reached >= UNDONE_SHARE * float(trial.intact.mean()):
            break
    if not chosen:
        chosen = candidates(on_a_first_order, 1)
    sets = [[index] for index in chosen] + [chosen[: count + 1] for count in range(len(chosen))]
    read: Effects = effects(runner, on_b, layer, [_span(rows, each) for each in sets])
    values = [read.recovered(index) for index in range(len(sets))]
    return Selection(
        trained,
        tuple(chosen),
        attributions(rows, on_b.did(layer), gradient_b, count_b),
        tuple(values[: len(chosen)]),
        tuple(values[len(chosen) :]),
    )


def median_seed(selections: Sequence[Selection]) -> Selection:
    """The dictionary whose features recover the median; the lower of the two middle ones if the count is even.

    If recovery could not be measured, it was measured for none of them; the middle one in the given order is taken.
    """
    return sorted(selections, key=lambda selection: selection.recovered or 0.0)[(len(selections) - 1) // 2]


def subspace_overlap(selections: Sequence[Selection]) -> float | None:
    """``span_overlap`` of the selected features' decoder rows."""
    return span_overlap([selection.basis for selection in selections])


def span_overlap(bases: Sequence[Float[Tensor, "d_model rank"]]) -> float | None:
    """Mean over pairs of orthonormal bases of ‖U₁ᵀU₂‖²_F / min(rank): 1 for equal spans, 0 for orthogonal ones."""
    overlaps = [
        float((first.T @ second).square().sum()) / min(first.shape[1], second.shape[1])
        for index, first in enumerate(bases)
        for second in bases[index + 1 :]
        if first.shape[1] and second.shape[1]
    ]
    return sum(overlaps) / len(overlaps) if overlaps else None


def _span(rows: Float[Tensor, "features d_model"], indices: Sequence[int]) -> Float[Tensor, "d_model rank"]:
    return orthonormal(rows[list(indices)].T.cpu())
