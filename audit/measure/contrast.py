"""One string against the clean string: its directions and its causal effect.

The suspected string and every decoy are measured in the same way: directions are fitted and the layer chosen on half A,
and the effect is measured on half B.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audit.measure.ablation import Alignment, removed_along
from audit.measure.activations import first, prompts_only
from audit.measure.directions import attribution_directions
from audit.measure.divergence import carrier_kl
from audit.measure.expected import Expected
from audit.models.pair import ModelPair
from audit.models.runner import Activations, Runner

MAX_RANK: Final = 4
"""Directions fitted per layer."""


@dataclass(frozen=True)
class Contrast:
    """One string and the clean string on the same carriers.

    Attributes:
        string, clean: the fine-tuned model's runs, forced continuation included.
        base_string, base_clean: the base's runs; with the same continuation where effects are measured, otherwise
            prompts only.
    """

    string: Activations
    clean: Activations
    base_string: Activations
    base_clean: Activations

    @cached_property
    def alignment(self) -> Alignment:
        """Rows of the fine-tuned runs that match."""
        return Alignment.of(self.string.layout, self.clean.layout)

    @property
    def forced(self) -> bool:
        """Whether the base was run over the continuation as well, under both strings."""
        outputs = outputs_of(self.string).shape[1]
        return outputs_of(self.base_string).shape[1] == outputs_of(self.base_clean).shape[1] == outputs

    def expected(self, pair: ModelPair) -> Expected:
        """What the base says that the string should do."""
        assert self.forced, "the base was run on prompts only"
        return Expected(pair, outputs_of(self.clean), outputs_of(self.base_string), outputs_of(self.base_clean))

    def did(self, layer: int) -> Float[Tensor, "span d_model"]:
        """Difference in differences over the span, float32: (h_ft,s − h_ft,c) − (h_b,s − h_b,c).

        The base's difference is taken to be zero where it was not run, and at tokens that only the fine-tuned model's
        template writes.
        """
        rows = self.alignment
        did = self.string.hidden[layer][rows.left].float() - self.clean.hidden[layer][rows.right].float()
        runs = (self.base_string, self.base_clean)
        base_string, base_clean = runs if self.forced else (prompts_only(run) for run in runs)
        base_rows = Alignment.of(base_string.layout, base_clean.layout)
        base = base_string.hidden[layer][base_rows.left].float()
        base -= base_clean.hidden[layer][base_rows.right].float()
        counted = torch.arange(len(did)) if self.forced else rows.in_prompt.nonzero()[:, 0]
        ours, theirs = _from_the_right(rows.carrier[counted], base_rows.carrier)
        did[counted[ours]] -= base[theirs]
        return did

    def last(self, layer: int) -> "LastToken":
        """Activations at the last prompt token, float32, ``[carriers, d_model]`` each."""
        rows_of_runs = []
        for activations in (self.string, self.clean, self.base_string, self.base_clean):
            rows = [activations.layout.last_prompt_row(index) for index in range(len(activations.layout))]
            rows_of_runs.append(activations.hidden[layer][rows].float())
        return LastToken(*rows_of_runs)


@dataclass(frozen=True)
class LastToken:
    """Activations of four runs at the last prompt token, ``[carriers, d_model]``."""

    tuned_string: Float[Tensor, "carriers d_model"]
    tuned_clean: Float[Tensor, "carriers d_model"]
    base_string: Float[Tensor, "carriers d_model"]
    base_clean: Float[Tensor, "carriers d_model"]

    @property
    def did(self) -> Float[Tensor, "carriers d_model"]:
        """(tuned − base) under the string, minus the same under the clean string."""
        return (self.tuned_string - self.base_string) - (self.tuned_clean - self.base_clean)

    @property
    def base_reading(self) -> Float[Tensor, "carriers"]:
        """‖a_base(string) − a_base(clean)‖: how differently the base reads the two strings."""
        return (self.base_string - self.base_clean).norm(dim=-1)

    @property
    def static_shift(self) -> Float[Tensor, "carriers"]:
        """‖Δ(clean)‖: how far fine-tuning moved the activations under the clean string."""
        return (self.tuned_clean - self.base_clean).norm(dim=-1)

    def amplification(self, direction: Float[Tensor, "d_model"]) -> float | None:
        """Mean DiD along a unit direction over the mean base reading; None if the base does not distinguish the
        strings.
        """
        reading = float(self.base_reading.mean())
        return float((self.did @ direction).mean()) / reading if reading > 0 else None


def _from_the_right(
    left: Int[Tensor, "rows"], right: Int[Tensor, "others"]
) -> tuple[Int[Tensor, "matching"], Int[Tensor, "matching"]]:
    """Matching places in two ascending lists of carriers, each carrier's counted from its end."""
    if torch.equal(left, right):
        return torch.arange(len(left)), torch.arange(len(right))
    counts = [torch.bincount(each, minlength=int(max(left[-1], right[-1])) + 1) for each in (left, right)]
    least = torch.minimum(*counts)
    kept = []
    for each, count in zip((left, right), counts, strict=True):
        ends = count.cumsum(0)
        kept.append(torch.arange(len(each)) >= (ends - least)[each])
    return kept[0].nonzero()[:, 0], kept[1].nonzero()[:, 0]


def first_carriers(contrast: Contrast, count: int) -> Contrast:
    """The same contrast on only the first carriers, without a copy."""
    runs = (contrast.string, contrast.clean, contrast.base_string, contrast.base_clean)
    return Contrast(*(first(run, min(count, len(run.layout))) for run in runs))


@dataclass(frozen=True)
class Directions:
    """Attribution directions of one string, fitted on half A.

    Attributes:
        basis: per layer, ``[d_model, 4]`` orthonormal, the leading one first; rank 1 is the first column.
        effect_a: per layer, the causal effect of rank 1 on A, nats per carrier.
        layer: the layer with the largest of them.
        gradient: per layer, the gradient over the span on A that they were fitted on.
    """

    basis: dict[int, Float[Tensor, "d_model rank"]]
    effect_a: dict[int, float]
    layer: int
    gradient: dict[int, Float[Tensor, "span d_model"]]


def fit_directions(runner: Runner, contrast: Contrast, layers: Sequence[int]) -> Directions:
    """Fit a subspace of rank 4 at every layer on half A and choose the layer by the effect of rank 1.

    Gradients are those of KL(run‖q) + KL(q‖run), q being what the base predicts: those of the first term alone vanish
    where the run is certain of its answer, which would leave nothing to fit
    (docs/decisions/0036-the-loss-that-directions-come-from.md).
    """
    ordered = sorted(layers)
    spans = _gradients(runner, contrast, ordered)
    # Contiguous, as when a second attempt reads them back: products with another layout round differently.
    basis = {
        layer: attribution_directions(contrast.did(layer), spans[layer], MAX_RANK).contiguous() for layer in ordered
    }
    finals = [ablated_outputs(runner, contrast, layer, [basis[layer][:, :1]])[0] for layer in ordered]
    intact, *ablated = contrast.expected(runner.pair).kls([outputs_of(contrast.string), *finals])
    effect_a = {layer: float((intact - kls).mean()) for layer, kls in zip(ordered, ablated, strict=True)}
    layer = max(ordered, key=lambda candidate: effect_a[candidate])
    return Directions(basis, effect_a, layer, spans)


def fit_at(runner: Runner, contrast: Contrast, layer: int) -> Float[Tensor, "d_model rank"]:
    """The subspace of ``fit_directions`` at one layer."""
    return attribution_directions(contrast.did(layer), _gradients(runner, contrast, [layer])[layer], MAX_RANK)


def _gradients(runner: Runner, contrast: Contrast, ordered: Sequence[int]) -> dict[int, Float[Tensor, "span d_model"]]:
    string, loss = contrast.string, contrast.expected(runner.pair).symmetric_divergence
    gradients = runner.gradients(string.layout, ordered, string.hidden[ordered[0]], loss)
    return {layer: gradients[layer][contrast.alignment.left] for layer in ordered}


def outputs_of(activations: Activations) -> Float[Tensor, "carriers outputs d_model"]:
    """The head's inputs at the compared outputs."""
    assert activations.final is not None, "captured without outputs"
    return activations.final


def ablated_outputs(
    runner: Runner, contrast: Contrast, layer: int, bases: Sequence[Float[Tensor, "d_model rank"]]
) -> list[Float[Tensor, "carriers outputs d_model"]]:
    """Head inputs of the string's run without the DiD along each basis: what the base does too stays in place."""
    string, did, rows = contrast.string, contrast.did(layer), contrast.alignment.left
    return [
        runner.resume(string.layout, layer, removed_along(string.hidden[layer], rows, did, basis)) for basis in bases
    ]


def tuned_kl(runner: Runner, string: Activations, clean: Activations) -> Float[Tensor, "carriers"]:
    """Σ KL(ft_s‖ft_c), nats per carrier."""
    with runner.pair.on("tuned") as parts:
        return carrier_kl(parts, outputs_of(string), outputs_of(clean), runner.pair.device)


def effects(
    runner: Runner, contrast: Contrast, layer: int, bases: Sequence[Float[Tensor, "d_model rank"]]
) -> "Effects":
    """KL(ft_s‖q) and KL(ablated‖q) for several bases at one layer, nats per carrier."""
    finals = ablated_outputs(runner, contrast, layer, bases)
    intact, *ablated = contrast.expected(runner.pair).kls([outputs_of(contrast.string), *finals])
    return Effects(intact, tuple(ablated))


@dataclass(frozen=True)
class Effects:
    """KL from what the base predicts before and after ablations, ``[carriers]`` each."""

    intact: Float[Tensor, "carriers"]
    ablated: tuple[Float[Tensor, "carriers"], ...]

    def nats(self, index: int = 0) -> float:
        """KL(ft_s‖q) − KL(ablated‖q), mean over carriers: T where the basis is the leading direction."""
        return float((self.intact - self.ablated[index]).mean())

    def recovered(self, index: int = 0) -> float | None:
        """1 − ΣKL(ablated‖q) / ΣKL(ft_s‖q); None if the base predicts all that the string changes."""
        total = float(self.intact.sum())
        return 1.0 - float(self.ablated[index].sum()) / total if total > 1e-6 else None
