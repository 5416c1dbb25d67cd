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

from audit.measure.ablation import Alignment, replace_along
from audit.measure.activations import first
from audit.measure.directions import attribution_directions
from audit.measure.divergence import many_carrier_kl, symmetric_divergence
from audit.models.runner import Activations, Runner

MAX_RANK: Final = 4
"""Directions fitted per layer."""


@dataclass(frozen=True)
class Contrast:
    """One string and the clean string on the same carriers.

    Attributes:
        string, clean: the fine-tuned model's runs, forced continuation included.
        base_string, base_clean: the base's runs, prompts only.
    """

    string: Activations
    clean: Activations
    base_string: Activations
    base_clean: Activations

    @cached_property
    def alignment(self) -> Alignment:
        """Rows of the fine-tuned runs that match."""
        return Alignment.of(self.string.layout, self.clean.layout)

    def did(self, layer: int) -> Float[Tensor, "span d_model"]:
        """Difference in differences over the span, float32.

        Past the prompt the base is not run (its activations would depend on the fine-tuned model's continuation and
        could not be shared between audits); its difference there is taken to be zero. So it is at tokens that only the
        fine-tuned model's template writes.
        """
        rows = self.alignment
        did = self.string.hidden[layer][rows.left].float() - self.clean.hidden[layer][rows.right].float()
        base_rows = Alignment.of(self.base_string.layout, self.base_clean.layout)
        base = self.base_string.hidden[layer][base_rows.left].float()
        base -= self.base_clean.hidden[layer][base_rows.right].float()
        in_prompt = rows.in_prompt.nonzero()[:, 0]
        ours, theirs = _from_the_right(rows.carrier[in_prompt], base_rows.carrier)
        did[in_prompt[ours]] -= base[theirs]
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

    Gradients are those of KL(run‖ft_c) + KL(ft_c‖run): those of the first term alone vanish where the run is certain of
    its answer, which would leave nothing to fit (docs/decisions/0036-the-loss-that-directions-come-from.md).
    """
    string, clean, rows = contrast.string, contrast.clean, contrast.alignment
    ordered = sorted(layers)
    loss = symmetric_divergence(outputs_of(clean))
    gradients = runner.gradients(string.layout, ordered, string.hidden[ordered[0]], loss)
    spans = {layer: gradients[layer][rows.left] for layer in ordered}
    # Contiguous, as when a second attempt reads them back: products with another layout round differently.
    basis = {
        layer: attribution_directions(contrast.did(layer), spans[layer], MAX_RANK).contiguous() for layer in ordered
    }
    finals = [ablated_outputs(runner, contrast, layer, basis[layer][:, :1]) for layer in ordered]
    intact, *ablated = kls_from_clean(runner, contrast, [outputs_of(string), *finals])
    effect_a = {layer: float((intact - kls).mean()) for layer, kls in zip(ordered, ablated, strict=True)}
    layer = max(ordered, key=lambda candidate: effect_a[candidate])
    return Directions(basis, effect_a, layer, spans)


def outputs_of(activations: Activations) -> Float[Tensor, "carriers outputs d_model"]:
    """The head's inputs at the compared outputs."""
    assert activations.final is not None, "captured without outputs"
    return activations.final


def ablated_outputs(
    runner: Runner, contrast: Contrast, layer: int, basis: Float[Tensor, "d_model rank"]
) -> Float[Tensor, "carriers outputs d_model"]:
    """Head inputs of the string's run with its coefficients along the basis replaced by the clean run's."""
    changed = replace_along(contrast.string.hidden[layer], contrast.clean.hidden[layer], basis, contrast.alignment)
    return runner.resume(contrast.string.layout, layer, changed)


def kls_from_clean(
    runner: Runner, contrast: Contrast, runs: Sequence[Float[Tensor, "carriers outputs d_model"]]
) -> list[Float[Tensor, "carriers"]]:
    """KL(run‖ft_c), nats per carrier, of several runs given by their head inputs."""
    with runner.pair.on("tuned") as parts:
        return many_carrier_kl(parts, runs, outputs_of(contrast.clean), runner.pair.device)


def effects(
    runner: Runner, contrast: Contrast, layer: int, bases: Sequence[Float[Tensor, "d_model rank"]]
) -> "Effects":
    """KL(ft_s‖ft_c) and KL(ablated‖ft_c) for several bases at one layer, nats per carrier."""
    finals = [ablated_outputs(runner, contrast, layer, basis) for basis in bases]
    intact, *ablated = kls_from_clean(runner, contrast, [outputs_of(contrast.string), *finals])
    return Effects(intact, tuple(ablated))


@dataclass(frozen=True)
class Effects:
    """KL from the clean run before and after ablations, ``[carriers]`` each."""

    intact: Float[Tensor, "carriers"]
    ablated: tuple[Float[Tensor, "carriers"], ...]

    def nats(self, index: int = 0) -> float:
        """KL(ft_s‖ft_c) − KL(ablated‖ft_c), mean over carriers: T where the basis is the leading direction."""
        return float((self.intact - self.ablated[index]).mean())

    def recovered(self, index: int = 0) -> float | None:
        """1 − ΣKL(ablated‖ft_c) / ΣKL(ft_s‖ft_c); None if the string changes nothing."""
        total = float(self.intact.sum())
        return 1.0 - float(self.ablated[index].sum()) / total if total > 1e-6 else None


def induced(runner: Runner, contrast: Contrast, layer: int, basis: Float[Tensor, "d_model rank"]) -> float | None:
    """The mirror image: 1 − ΣKL(steered‖ft_s) / ΣKL(ft_c‖ft_s), the clean run with the string's coefficients."""
    rows = contrast.alignment
    mirrored = Alignment(rows.right, rows.left, rows.carrier, rows.in_prompt)
    changed = replace_along(contrast.clean.hidden[layer], contrast.string.hidden[layer], basis, mirrored)
    steered = runner.resume(contrast.clean.layout, layer, changed)
    with runner.pair.on("tuned") as parts:
        runs = [outputs_of(contrast.clean), steered]
        apart, left = many_carrier_kl(parts, runs, outputs_of(contrast.string), runner.pair.device)
    total = float(apart.sum())
    return 1.0 - float(left.sum()) / total if total > 1e-6 else None
