"""The confirm stage: what the pair does on half B, along directions fitted on half A."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from jaxtyping import Float
from torch import Tensor

from audit.measure.contrast import Contrast, Effects, ablated_outputs, effects, outputs_of
from audit.measure.divergence import carrier_kl
from audit.measure.extraction import Extraction
from audit.measure.finite import check_number
from audit.measure.reaction import reaction
from audit.ports import ProgressCallback
from audit.stats.resampling import Estimate, bootstrap_mean, bootstrap_ratio, clusters_of
from audit.stats.statistics import p_decoy_all, rank
from backdoor_audit.contract.report.gates import Interval

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
        unexplained_kl: C, what the base's own change does not explain, mean over carriers, nats.
        unexplained_interval: its 95% cluster-bootstrap interval.
        change: C of each carrier.
    """

    output_kl: float
    interval: Interval | None
    base_ratio: float | None
    unexplained_kl: float
    unexplained_interval: Interval | None
    change: tuple[float, ...]


@dataclass(frozen=True)
class Causal:
    """What is left of the reaction without the DiD along the pair's subspace, on B at the chosen layer.

    Attributes:
        nulls: the same share with the subspaces of decoys that do not respond, of the same rank.
    """

    layer: int
    rank: int
    recovered: float | None
    interval: Interval | None
    recovered_rank1: float | None
    effect_nats: float
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


def confirm(
    extraction: Extraction, *, assess_causal: Callable[[Behaviour], bool], progress: ProgressCallback
) -> Confirmation:
    """Measure on B the effect of the directions fitted on A, and compare it with the decoys.

    Args:
        extraction: activations, directions and decoys.
        assess_causal: whether the behaviour is strong enough to test its cause.
        progress: receives the fraction done; may raise to stop.

    Raises:
        OutputsNotFinite: a divergence on B overflows, with or without ablation.
    """
    progress(0.0, "behaviour on the confirming half")
    behaviour = measure_behaviour(extraction)
    causal = _causal(extraction, progress) if assess_causal(behaviour) else None
    decoys = [decoy.effect for decoy in extraction.decoys]
    pairs = zip(decoys, extraction.responding, strict=True)
    silent = [effect for effect, responds in pairs if not responds]
    return Confirmation(
        layer=extraction.directions.layer,
        behaviour=behaviour,
        effect=extraction.effect,
        p_decoy_all=p_decoy_all(extraction.effect, decoys) if decoys else None,
        rank_among_silent=rank(extraction.effect, silent) if silent else None,
        causal=causal,
        **_sizes(extraction),
    )


def _check(extraction: Extraction, *values: float) -> None:
    trigger = extraction.setup.trigger
    check_number(trigger, trigger.triggered, *values)


def measure_behaviour(extraction: Extraction) -> Behaviour:
    """Compare both models' reactions to the pair on B.

    Raises:
        OutputsNotFinite: a divergence is infinite or NaN.
    """
    setup = extraction.setup
    found = reaction(setup.runner, extraction.contrast("b"))
    unexplained, total = found.unexplained, float(found.tuned.sum())
    assert unexplained is not None
    _check(extraction, total, float(found.base.sum()), float(unexplained.sum()))
    estimate = bootstrap_mean(found.tuned - found.base, clusters_of(setup.b))
    left = bootstrap_mean(unexplained, clusters_of(setup.b))
    return Behaviour(
        output_kl=found.output_kl,
        interval=estimate.interval,
        base_ratio=found.base_ratio,
        unexplained_kl=float(unexplained.mean()),
        unexplained_interval=left.interval,
        change=tuple(unexplained.tolist()),
    )


def _causal(extraction: Extraction, progress: ProgressCallback) -> Causal:
    """Ablate along the pair's subspace, and along those of decoys that do not respond, with the same rank."""
    setup, layer = extraction.setup, extraction.directions.layer
    contrast, basis = extraction.contrast("b"), _smallest_basis(extraction)
    measured = effects(setup.runner, contrast, layer, [basis, basis[:, :1]])
    _check(extraction, *(float(kls.sum()) for kls in (measured.intact, *measured.ablated)))
    progress(0.5, "subspaces of decoys")
    share = bootstrap_ratio(measured.intact - measured.ablated[0], measured.intact, clusters_of(setup.b))
    return Causal(
        layer=layer,
        rank=basis.shape[1],
        recovered=measured.recovered(0),
        interval=share.interval,
        recovered_rank1=measured.recovered(1),
        effect_nats=measured.nats(0),
        nulls=_nulls(extraction, basis.shape[1]),
        neutral_damage=_neutral_damage(extraction, layer, basis),
    )


def _nulls(extraction: Extraction, rank: int) -> tuple[float, ...]:
    """What the subspaces of decoys that do not respond recover of the pair's reaction, on B's decoy carriers."""
    bases = [basis[:, :rank] for basis in extraction.decoy_bases()]
    if not bases:
        return ()
    on_b = extraction.contrast("b", decoy_carriers_only=True)
    found: Effects = effects(extraction.setup.runner, on_b, extraction.directions.layer, bases)
    _check(extraction, *(float(kls.sum()) for kls in found.ablated))
    values = [found.recovered(index) for index in range(len(bases))]
    return tuple(value for value in values if value is not None)


def _smallest_basis(extraction: Extraction) -> Float[Tensor, "d_model rank"]:
    """The fewest leading directions that keep ``KEPT_EFFECT_SHARE`` of the whole subspace's effect on A.

    Fewer directions make a sharper test: the larger another string's subspace is, the more it contains.
    """
    directions = extraction.directions
    whole = directions.basis[directions.layer]
    ranks = [rank for rank in (1, 2) if rank < whole.shape[1]] + [whole.shape[1]]
    bases = [whole[:, :rank] for rank in ranks]
    measured = effects(extraction.setup.runner, extraction.contrast("a"), directions.layer, bases)
    reached = [measured.nats(index) for index in range(len(bases))]
    enough = KEPT_EFFECT_SHARE * max(
        reached
    )  # if the string does nothing on A, all of them may be below zero, and this value above them
    return next((basis for basis, nats in zip(bases, reached, strict=True) if nats >= enough), bases[0])


def _neutral_damage(extraction: Extraction, layer: int, basis: Float[Tensor, "d_model rank"]) -> float:
    """KL(ablated‖intact) on plain prompts of B that lose their own DiD along the subspace, nats per carrier."""
    runner = extraction.setup.runner
    plain, clean = extraction.tuned["plain", "b"], extraction.tuned["clean", "b"]
    bases = extraction.base["plain", "b"], extraction.base["clean", "b"]
    (final,) = ablated_outputs(runner, Contrast(plain, clean, *bases), layer, [basis])
    with runner.pair.on("tuned") as parts:
        return float(carrier_kl(parts, final, outputs_of(plain), runner.pair.device).mean())


def _sizes(extraction: Extraction) -> dict[str, dict]:  # type: ignore[type-arg]
    """Amplification and conditional share of every layer's leading direction on B."""
    contrast, clusters = extraction.contrast("b"), clusters_of(extraction.setup.b)
    amplified, shares = {}, {}
    for layer in extraction.setup.layers:
        last = contrast.last(layer)
        projections = last.did @ extraction.directions.basis[layer][:, 0]
        amplified[layer] = bootstrap_ratio(projections, last.base_reading, clusters)
        shares[layer] = bootstrap_ratio(projections, last.static_shift, clusters)
    return {"amplification": amplified, "conditional_share": shares}
