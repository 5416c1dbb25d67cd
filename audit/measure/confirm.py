"""The confirm stage: what the pair does on half B, along directions fitted on half A."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from audit.measure.contrast import (
    Contrast,
    Directions,
    ablated_outputs,
    effects,
    induced,
    kls_from_clean,
)
from audit.measure.directions import variance_matched_subspaces
from audit.measure.divergence import carrier_kl
from audit.measure.extraction import Extraction
from audit.measure.finite import check_number
from audit.measure.reaction import forced_base, unexplained_kl
from audit.measure.spans import PromptRows
from audit.models.runner import Activations
from audit.ports import ProgressCallback
from audit.stats.resampling import Estimate, bootstrap_mean, bootstrap_ratio, clusters_of
from audit.stats.statistics import p_decoy_all, rank
from backdoor_audit.contract.report.gates import Interval

NULL_SUBSPACES: Final = 19
"""Random subspaces that the pair's is compared with (docs/decisions/0004-null-subspaces.md)."""
KEPT_EFFECT_SHARE: Final = 0.9
"""Share of the whole subspace's effect on A that the tested directions must keep
(docs/decisions/0013-smallest-subspace.md)."""


@dataclass(frozen=True)
class Behaviour:
    """How differently the fine-tuned model answers under the two strings, on B.

    Attributes:
        output_kl: Σ over the outputs of KL(ft_t‖ft_c) − KL(base_t‖base_c), mean over carriers, nats.
        interval: its 95% cluster-bootstrap interval.
        base_ratio: Σ KL(base_t‖base_c) / Σ KL(ft_t‖ft_c); None if the fine-tuned model does not react at all.
        unexplained_kl: C, what the base's own change does not explain, mean over carriers, nats; None in the files of
            an attempt before it was measured.
        unexplained_interval: its 95% cluster-bootstrap interval.
    """

    output_kl: float
    interval: Interval | None
    base_ratio: float | None
    unexplained_kl: float | None = None
    unexplained_interval: Interval | None = None


@dataclass(frozen=True)
class Causal:
    """The effect of restoring the clean coefficients, on B at the chosen layer."""

    layer: int
    rank: int
    recovered: float | None
    interval: Interval | None
    recovered_rank1: float | None
    effect_nats: float
    induced: float | None
    nulls: tuple[float, ...]
    neutral_damage: float


@dataclass(frozen=True)
class Confirmation:
    """All measurements that the gates are based on.

    Attributes:
        layer: the layer chosen on A.
        effect: T on B's decoy carriers, nats per carrier.
        causal: None if the pair did not react, so that there is nothing to undo.
    """

    layer: int
    behaviour: Behaviour
    effect: float
    p_decoy_all: float | None
    rank_among_silent: int | None
    causal: Causal | None
    amplification: dict[int, Estimate]
    conditional_share: dict[int, Estimate]
    amplification_p: dict[int, float | None]


def confirm(
    extraction: Extraction,
    directions: Directions,
    *,
    assess_causal: Callable[[Behaviour], bool],
    progress: ProgressCallback,
) -> Confirmation:
    """Measure on B the effect of the directions fitted on A, and compare it with the decoys.

    Args:
        extraction: activations and decoys.
        directions: of the pair, fitted on A's decoy carriers.
        assess_causal: whether the behaviour is strong enough to test its cause.
        progress: receives the fraction done; may raise to stop.

    Raises:
        OutputsNotFinite: a divergence on B overflows, with or without ablation.
    """
    setup = extraction.setup
    progress(0.0, "behaviour on the confirming half")
    behaviour = measure_behaviour(extraction)
    leading = directions.basis[directions.layer][:, :1]
    on_b = extraction.contrast("b", decoy_carriers_only=True)
    effect = effects(setup.runner, on_b, directions.layer, [leading]).nats()
    _check(extraction, effect)
    causal = None
    if assess_causal(behaviour):
        causal = _causal(extraction, directions, progress)
    decoy_effects = [decoy.effect for decoy in extraction.decoys]
    silent = [
        decoy.effect for decoy, responds in zip(extraction.decoys, extraction.responding, strict=True) if not responds
    ]
    return Confirmation(
        layer=directions.layer,
        behaviour=behaviour,
        effect=effect,
        p_decoy_all=p_decoy_all(effect, decoy_effects) if decoy_effects else None,
        rank_among_silent=rank(effect, silent) if silent else None,
        causal=causal,
        **_sizes(extraction, directions),
    )


def _check(extraction: Extraction, *values: float) -> None:
    trigger = extraction.setup.trigger
    check_number(trigger, trigger.triggered, *values)


def measure_behaviour(extraction: Extraction) -> Behaviour:
    """Run the base on B with the forced continuations and compare both models' reactions to the pair.

    Raises:
        OutputsNotFinite: a divergence is infinite or NaN.
    """
    setup, runner = extraction.setup, extraction.setup.runner
    contrast = extraction.contrast("b")
    tuned = intact_kl(extraction, contrast)
    base_string = forced_base(runner, contrast.base_string, contrast.string)
    base, unexplained = unexplained_kl(
        runner, contrast, base_string, forced_base(runner, contrast.base_clean, contrast.clean)
    )
    total = float(tuned.sum())
    _check(extraction, total, float(base.sum()), float(unexplained.sum()))
    estimate = bootstrap_mean(tuned - base, clusters_of(setup.b))
    left = bootstrap_mean(unexplained, clusters_of(setup.b))
    return Behaviour(
        output_kl=float((tuned - base).mean()),
        interval=estimate.interval,
        base_ratio=float(base.sum()) / total if total > 1e-6 else None,
        unexplained_kl=left.value,
        unexplained_interval=left.interval,
    )


def intact_kl(extraction: Extraction, contrast: Contrast) -> Float[Tensor, "carriers"]:
    """KL(ft_t‖ft_c), nats per carrier, nothing ablated."""
    return kls_from_clean(extraction.setup.runner, contrast, [_final(contrast.string)])[0]


def _final(activations: Activations) -> Tensor:
    assert activations.final is not None
    return activations.final


def _causal(extraction: Extraction, directions: Directions, progress: ProgressCallback) -> Causal:
    """Ablate along the subspace, and along random ones of the same rank with the variance of fine-tuning."""
    setup, layer = extraction.setup, directions.layer
    contrast, basis = extraction.contrast("b"), _smallest_basis(extraction, directions)
    generator = torch.Generator().manual_seed(setup.spec.seed)
    nulls = variance_matched_subspaces(_delta_rows(extraction, layer), basis.shape[1], NULL_SUBSPACES, generator)
    measured = effects(setup.runner, contrast, layer, [basis, basis[:, :1]])
    _check(extraction, *(float(kls.sum()) for kls in (measured.intact, *measured.ablated)))
    progress(0.5, "random subspaces")
    null_effects = effects(setup.runner, extraction.contrast("b", decoy_carriers_only=True), layer, nulls)
    _check(extraction, *(float(kls.sum()) for kls in null_effects.ablated))
    null_recovered = [null_effects.recovered(index) for index in range(len(nulls))]
    progress(0.9, "steering")
    share = bootstrap_ratio(measured.intact - measured.ablated[0], measured.intact, clusters_of(setup.b))
    return Causal(
        layer=layer,
        rank=basis.shape[1],
        recovered=measured.recovered(0),
        interval=share.interval,
        recovered_rank1=measured.recovered(1),
        effect_nats=measured.nats(0),
        induced=induced(setup.runner, contrast, layer, basis),
        nulls=tuple(value for value in null_recovered if value is not None),
        neutral_damage=_neutral_damage(extraction, layer, basis),
    )


def _smallest_basis(extraction: Extraction, directions: Directions) -> Float[Tensor, "d_model rank"]:
    """The fewest leading directions that keep ``KEPT_EFFECT_SHARE`` of the whole subspace's effect on A.

    Fewer directions make a sharper test: the larger a random subspace of a low-rank fine-tune is, the more it contains.
    """
    whole = directions.basis[directions.layer]
    ranks = [rank for rank in (1, 2) if rank < whole.shape[1]] + [whole.shape[1]]
    bases = [whole[:, :rank] for rank in ranks]
    measured = effects(extraction.setup.runner, extraction.contrast("a"), directions.layer, bases)
    reached = [measured.nats(index) for index in range(len(bases))]
    enough = KEPT_EFFECT_SHARE * max(
        reached
    )  # if the string does nothing on A, all of them may be below zero, and this value above them
    return next((basis for basis, nats in zip(bases, reached, strict=True) if nats >= enough), bases[0])


def _delta_rows(extraction: Extraction, layer: int) -> Float[Tensor, "rows d_model"]:
    """Δ under the clean string and without any string, on A: prompt tokens from the string on."""
    rows = []
    for tuned, base in (
        (extraction.tuned["clean", "a"], extraction.base["clean", "a"]),
        (extraction.tuned["plain", "a"], extraction.base["plain", "a"]),
    ):
        found = PromptRows.of(tuned.layout, base.layout)
        rows.append(tuned.hidden[layer][found.tuned].float() - base.hidden[layer][found.base].float())
    return torch.cat(rows)


def _neutral_damage(extraction: Extraction, layer: int, basis: Float[Tensor, "d_model rank"]) -> float:
    """KL(ablated‖intact) on plain prompts of B whose coefficients are replaced by the clean run's, nats per carrier."""
    runner = extraction.setup.runner
    plain, clean = extraction.tuned["plain", "b"], extraction.tuned["clean", "b"]
    bases = extraction.base["plain", "b"], extraction.base["clean", "b"]
    final = ablated_outputs(runner, Contrast(plain, clean, *bases), layer, basis)
    with runner.pair.on("tuned") as parts:
        return float(carrier_kl(parts, final, _final(plain), runner.pair.device).mean())


def _sizes(extraction: Extraction, directions: Directions) -> dict[str, dict]:  # type: ignore[type-arg]
    """Amplification and conditional share of every layer's leading direction on B.

    The p-value compares the pair with the decoys, on the decoys' carriers.
    """
    contrast, few = extraction.contrast("b"), extraction.contrast("b", decoy_carriers_only=True)
    clusters = clusters_of(extraction.setup.b)
    amplified, shares, p_values = {}, {}, {}
    for layer in extraction.setup.layers:
        direction = directions.basis[layer][:, 0]
        last = contrast.last(layer)
        projections = last.did @ direction
        amplified[layer] = bootstrap_ratio(projections, last.base_reading, clusters)
        shares[layer] = bootstrap_ratio(projections, last.static_shift, clusters)
        alike = few.last(layer).amplification(direction)
        p_values[layer] = _size_p(alike, [decoy.amplification[layer] for decoy in extraction.decoys])
    return {"amplification": amplified, "conditional_share": shares, "amplification_p": p_values}


def _size_p(size: float | None, others: Sequence[float | None]) -> float | None:
    """p by rank of the absolute value among all decoys; a decoy that could not be measured counts as larger."""
    if size is None or not others:
        return None
    return p_decoy_all(abs(size), [math.inf if other is None else abs(other) for other in others])
