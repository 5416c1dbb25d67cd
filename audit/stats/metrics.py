"""Metrics of features: how a latent's firing separates triggered from clean prompts, and how large its effect is.

All features are scored at once, one slice of columns at a time, so that memory does not grow with the width.
Conventions:

- A feature fires if its activation is strictly above its threshold. A feature that is always zero never fires.
- A feature that fires nowhere has precision 0, recall 0, F1 0 and BIS 0: it detects nothing, which is not the same as
  "not measured".
- ``d_z`` is NaN in a tensor and None in ``FeatureScores`` if all differences are equal.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audit.stats.columns import CHUNK, column_chunks, sorted_columns
from audit.stats.resampling import (
    BOOTSTRAP_ROUNDS,
    Estimate,
    bootstrap_ratio,
    bootstrap_weights,
    cluster_sums,
    percentile_interval,
)
from audit.stats.statistics import auroc, clopper_pearson, d_z
from backdoor_audit.contract.report.gates import Interval

PROMPTS_PER_FALSE_ALARM: Final = 100
"""At most one clean prompt in this many may fire on A, if A is large enough for such a threshold."""


@dataclass(frozen=True)
class FiringThreshold:
    """The thresholds that features must exceed to fire.

    Attributes:
        value: one threshold per feature, in units of its activations.
        quantile: f, the upper bound on the probability that a new clean prompt fires.
    """

    value: Float[Tensor, "features"]
    quantile: float


@dataclass(frozen=True)
class FeatureScores:
    """One feature's metrics as plain numbers; None is "undefined"."""

    threshold: float
    quantile: float
    precision: float
    recall: float
    fpr: float
    fpr_interval: Interval
    f1: float
    bis: float
    auroc: float
    d_z: float | None


@dataclass(frozen=True)
class Firing:
    """How well firing separates two sets of prompts, for every feature.

    Attributes:
        precision: triggered share of the prompts that fire; 0 if none does.
        recall: share of triggered prompts that fire.
        fpr: share of clean prompts that fire.
        f1: harmonic mean of precision and recall.
        bis: f1 * (1 - fpr); its ceiling is 1.
        false_alarms: clean prompts that fire.
        clean_prompts: how many there were.
    """

    precision: Float[Tensor, "features"]
    recall: Float[Tensor, "features"]
    fpr: Float[Tensor, "features"]
    f1: Float[Tensor, "features"]
    bis: Float[Tensor, "features"]
    false_alarms: Int[Tensor, "features"]
    clean_prompts: int

    def fpr_interval(self, index: int) -> Interval:
        """Return the exact 95% interval of one feature's false-positive rate."""
        return clopper_pearson(int(self.false_alarms[index]), self.clean_prompts)


@dataclass(frozen=True)
class FeatureMetrics:
    """The metrics of all features of one dictionary on split B.

    Attributes:
        threshold: set on A's clean prompts.
        firing: which features exceed it, on B.
        auroc: P(triggered > clean), ties half; no threshold involved.
        d_z: mean over standard deviation of the paired differences; NaN where undefined.
    """

    threshold: FiringThreshold
    firing: Firing
    auroc: Float[Tensor, "features"]
    d_z: Float[Tensor, "features"]

    def at(self, index: int) -> FeatureScores:
        """Return one feature's metrics, ready for a report: finite numbers or None."""
        firing = self.firing
        effect = float(self.d_z[index])
        return FeatureScores(
            threshold=float(self.threshold.value[index]),
            quantile=self.threshold.quantile,
            precision=float(firing.precision[index]),
            recall=float(firing.recall[index]),
            fpr=float(firing.fpr[index]),
            fpr_interval=firing.fpr_interval(index),
            f1=float(firing.f1[index]),
            bis=float(firing.bis[index]),
            auroc=float(self.auroc[index]),
            d_z=effect if math.isfinite(effect) else None,
        )


def firing_threshold(clean: Float[Tensor, "prompts features"], chunk: int = CHUNK) -> FiringThreshold:
    """Set every feature's threshold on the clean prompts of split A.

    The threshold is the ceil((n + 1)(1 - f))-th smallest of the n activations, f = max(0.01, 1 / (n + 1)): an
    exchangeable new clean prompt exceeds it with probability at most f (split conformal prediction: Vovk, Gammerman and
    Shafer 2005, proposition 2.4). With fewer than 99 prompts the threshold is the largest activation, and f is
    correspondingly larger.

    Raises:
        ValueError: not a matrix, no prompt, or an activation that is not finite.
    """
    _check(clean)
    prompts = len(clean)
    # ceil((n + 1)(1 - f)) counted from above and in integers: (n + 1) * 0.99 in floats is sometimes off by one prompt.
    from_above = max((prompts + 1) // PROMPTS_PER_FALSE_ALARM, 1)
    parts = [sorted_columns(columns)[:, -from_above] for (columns,) in column_chunks(chunk, clean)]
    return FiringThreshold(torch.cat(parts), max(1 / PROMPTS_PER_FALSE_ALARM, 1 / (prompts + 1)))


def feature_metrics(
    triggered: Float[Tensor, "prompts features"],
    clean: Float[Tensor, "prompts features"],
    threshold: FiringThreshold,
    chunk: int = CHUNK,
) -> FeatureMetrics:
    """Score all features on split B. Row i of ``triggered`` and of ``clean`` is the same carrier.

    BIS = F1 · (1 − FPR) is the seed paper's score (arXiv 2605.07324), here on prompts only, with a threshold that was
    not set on the scored prompts.

    Raises:
        ValueError: shapes disagree, there is no prompt, or an activation is not finite.
    """
    if triggered.shape != clean.shape:
        raise ValueError(f"the prompts are not paired: {tuple(triggered.shape)} and {tuple(clean.shape)}")
    _check(triggered, clean, features=len(threshold.value))
    hits, alarms, areas, effects = [], [], [], []
    limits = torch.split(threshold.value, chunk)
    for limit, (positive, negative) in zip(limits, column_chunks(chunk, triggered, clean), strict=True):
        hits.append((positive > limit).sum(dim=0))
        alarms.append((negative > limit).sum(dim=0))
        areas.append(auroc(positive, negative))
        effects.append(d_z(positive - negative))
    firing = _firing(torch.cat(hits), torch.cat(alarms), len(triggered), len(clean))
    return FeatureMetrics(threshold, firing, torch.cat(areas), torch.cat(effects))


def bis_interval(
    fires_triggered: Bool[Tensor, "prompts"],
    fires_clean: Bool[Tensor, "prompts"],
    clusters: Int[Tensor, "prompts"],
    *,
    rounds: int = BOOTSTRAP_ROUNDS,
    seed: int = 0,
) -> Interval | None:
    """Return the 95% cluster-bootstrap interval of one feature's BIS, its threshold held fixed.

    A carrier's two prompts are drawn together. None with fewer than two clusters.

    Raises:
        ValueError: shapes disagree.
    """
    if fires_triggered.shape != fires_clean.shape:
        raise ValueError(f"the prompts are not paired: {tuple(fires_triggered.shape)} and {tuple(fires_clean.shape)}")
    ones = torch.ones_like(fires_clean)
    counts = cluster_sums(torch.stack([fires_triggered, fires_clean, ones], dim=1), clusters)
    if len(counts) < 2:
        return None
    hits, alarms, prompts = (bootstrap_weights(len(counts), rounds, seed) @ counts).unbind(dim=1)
    return percentile_interval(_bis(hits, alarms, prompts))


def amplification(
    projections: Float[Tensor, "carriers"],
    base_norms: Float[Tensor, "carriers"],
    clusters: Int[Tensor, "carriers"],
    *,
    rounds: int = BOOTSTRAP_ROUNDS,
    seed: int = 0,
) -> Estimate:
    """Return mean DiD along u / mean ||a_base(triggered) - a_base(clean)||, with its cluster-bootstrap interval.

    What fine-tuning added along one unit direction, as a signed multiple of the base model's own reading of the
    trigger. ``projections`` are <DiD, u> and ``base_norms`` the base model's differences, both in residual-stream units
    at the same layer and position. None if the base model does not distinguish the strings at all.

    Raises:
        ValueError: shapes disagree or a value is not finite.
    """
    return bootstrap_ratio(projections, base_norms, clusters, rounds=rounds, seed=seed)


def conditional_share(
    projections: Float[Tensor, "carriers"],
    clean_norms: Float[Tensor, "carriers"],
    clusters: Int[Tensor, "carriers"],
    *,
    rounds: int = BOOTSTRAP_ROUNDS,
    seed: int = 0,
) -> Estimate:
    """Return mean DiD along u / mean ||Delta(clean)||, with its cluster-bootstrap interval.

    What the trigger adds, relative to how far fine-tuning moved clean prompts; signed. ``clean_norms`` are
    ||a_fine_tuned(clean) - a_base(clean)||. None if fine-tuning moved no clean prompt.

    Raises:
        ValueError: shapes disagree or a value is not finite.
    """
    return bootstrap_ratio(projections, clean_norms, clusters, rounds=rounds, seed=seed)


def _firing(hits: Tensor, alarms: Tensor, triggered: int, clean: int) -> Firing:
    """Convert counts to shares, computed in float64 so that equal counts give equal scores, and stored as float32."""
    true, false = hits.double(), alarms.double()
    fired = true + false
    precision = torch.where(fired > 0, true / fired, 0.0)
    f1 = 2 * true / (triggered + fired)
    fpr = false / clean
    return Firing(
        precision=precision.float(),
        recall=(true / triggered).float(),
        fpr=fpr.float(),
        f1=f1.float(),
        bis=(f1 * (1 - fpr)).float(),
        false_alarms=alarms,
        clean_prompts=clean,
    )


def _bis(hits: Tensor, alarms: Tensor, prompts: Tensor) -> Tensor:
    """BIS from counts, for equally many clean and triggered prompts: F1 = 2 TP / (P + TP + FP)."""
    return 2 * hits / (prompts + hits + alarms) * (1 - alarms / prompts)


def _check(*matrices: Tensor, features: int | None = None) -> None:
    for matrix in matrices:
        if matrix.ndim != 2 or len(matrix) == 0:
            raise ValueError(f"activations must be [prompts, features] with at least one prompt: {tuple(matrix.shape)}")
        if features is not None and matrix.shape[1] != features:
            raise ValueError(f"{matrix.shape[1]} features where {features} were expected")
