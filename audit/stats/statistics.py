"""Statistics that the audit reports: exact intervals, ranks as p-values, effect sizes over many features at once.

What resamples (sign flips, bootstrap) is in ``audit.stats.resampling``. Scalars are Python floats, and every returned
one is finite; tensor functions work on columns, one feature each, and return NaN for an undefined value, which the
caller turns into null before it reaches a report.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

import torch
from jaxtyping import Float
from scipy.special import betaincinv
from torch import Tensor

from audit.stats.columns import sorted_columns
from backdoor_audit.contract.report.gates import Interval

# A standard deviation below this share of the mean is float32 rounding, not spread.
_CONSTANT = 1e-6


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Return the exact two-sided interval of a binomial share.

    Source: Clopper and Pearson 1934, in the beta-quantile form of Brown, Cai and DasGupta 2001, section 4.2.1.

    Raises:
        ValueError: the counts are not ``0 <= successes <= trials`` with ``trials >= 1``, or the confidence is not
            between 0 and 1.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"no share: {successes} of {trials}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(betaincinv(successes + 1, trials - successes, 1 - tail))
    return low, high


def zero_alarm_bound(models: int) -> float:
    """Return the 95% upper bound on the false-alarm rate, given no alarm on ``models`` independent models.

    The largest rate at which observing none still has probability 0.05: 1 - 0.05^(1/n).

    Raises:
        ValueError: there is no model.
    """
    if models < 1:
        raise ValueError("a bound needs at least one model")
    return float(-math.expm1(math.log(0.05) / models))


def rank(value: float, others: Iterable[float]) -> int:
    """Return the rank of ``value`` among itself and ``others``; 1 is the largest.

    Ties count against ``value``, so that an effect never ranks first if a decoy equals it.

    Raises:
        ValueError: a value is NaN; comparisons with it would silently count in favour of ``value``.
    """
    others = list(others)
    if math.isnan(value) or any(math.isnan(other) for other in others):
        raise ValueError("NaN has no rank")
    return 1 + sum(other >= value for other in others)


def may_exceed(others: int, alpha: float, tests: int = 1) -> int | None:
    """Return how many of ``others`` may reach a value while (1 + reached) / (others + 1) <= alpha / tests.

    None if not even zero is few enough: then no p can be small enough.
    """
    allowed = math.floor(alpha / tests * (others + 1) + 1e-9) - 1
    return allowed if allowed >= 0 else None


def to_exceed(others: Sequence[float], alpha: float, tests: int = 1) -> float | None:
    """Return the bound that a value must exceed for its p among ``others`` to be at most alpha / tests; None if none
    can.

    Raises:
        ValueError: a value is NaN.
    """
    if any(math.isnan(other) for other in others):
        raise ValueError("NaN has no rank")
    allowed = may_exceed(len(others), alpha, tests)
    return None if allowed is None or not others else sorted(others, reverse=True)[allowed]


def conformal_p(score: float, calibration: Sequence[float]) -> float:
    """Return (1 + #{S_i >= S}) / (N + 1): the p-value of ``score`` among exchangeable benign scores.

    Source: Vovk, Gammerman and Shafer 2005, chapter 2; Bates et al. 2023 (arXiv 2104.08279), equation 2. Its smallest
    value is 1 / (N + 1); with an empty calibration set it is 1.

    Raises:
        ValueError: a score is NaN.
    """
    return rank(score, calibration) / (len(calibration) + 1)


def p_decoy_all(effect: float, decoy_effects: Sequence[float]) -> float:
    """Return (1 + #{T_j >= T}) / (n + 1) over all decoys, including responding ones.

    A valid p-value where the strings are exchangeable under the null hypothesis; nothing is screened out, so nothing
    favours the pair.

    Raises:
        ValueError: an effect is NaN.
    """
    return conformal_p(effect, decoy_effects)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values family-wise for the number of hypotheses; the order is kept.

    Source: Holm 1979: the i-th smallest of m is multiplied by m - i + 1, made monotone and cut off at 1.

    Raises:
        ValueError: a value is not between 0 and 1.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError("p-values lie between 0 and 1")
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    steps = accumulate((min(1.0, p_values[i] * (len(order) - step)) for step, i in enumerate(order)), max)
    adjusted = dict(zip(order, steps, strict=True))
    return [adjusted[i] for i in range(len(p_values))]


def auroc(
    positive: Float[Tensor, "positives features"], negative: Float[Tensor, "negatives features"]
) -> Float[Tensor, "features"]:
    """Return P(positive > negative) + P(equal) / 2 for every feature: the area under its ROC curve.

    Source: Mann and Whitney 1947; ties count half (Hanley and McNeil 1982). Rank-based: each feature's negatives are
    sorted once and searched, O(n log n), and the counts are exact integers.

    Raises:
        ValueError: a side has no row, or the feature counts differ.
    """
    _check_sides(positive, negative)
    ordered = sorted_columns(negative)
    # Sorted queries traverse the table in order, which is twice as fast as unsorted ones.
    queries = sorted_columns(positive)
    below = torch.searchsorted(ordered, queries).sum(dim=1)
    not_above = torch.searchsorted(ordered, queries, right=True).sum(dim=1)
    pairs = len(positive) * len(negative)
    return ((below + not_above).double() / (2 * pairs)).float()


def d_z(differences: Float[Tensor, "prompts features"]) -> Float[Tensor, "features"]:
    """Return the mean over the standard deviation of paired differences, for every feature.

    Source: Cohen 1988, section 2.3.5, with the n - 1 standard deviation. It measures consistency, not size. NaN if
    undefined: with fewer than two prompts, or if all differences are equal (including the zeros of a dead feature).

    Raises:
        ValueError: there is no row.
    """
    if differences.ndim != 2 or len(differences) == 0:
        raise ValueError(
            f"differences must be [prompts, features] with at least one prompt: {tuple(differences.shape)}"
        )
    mean = differences.mean(dim=0)
    if len(differences) == 1:
        return torch.full_like(mean, torch.nan)
    # Twenty times as fast as Tensor.std down the columns.
    deviation = ((differences - mean).square().sum(dim=0) / (len(differences) - 1)).sqrt()
    return torch.where(deviation > _CONSTANT * mean.abs(), mean / deviation, torch.nan)


def _check_sides(one: Tensor, other: Tensor) -> None:
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1]:
        raise ValueError(f"sides must be [prompts, features] alike: {tuple(one.shape)} and {tuple(other.shape)}")
    if len(one) == 0 or len(other) == 0:
        raise ValueError("a side has no prompt")
