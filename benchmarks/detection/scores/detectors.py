"""One number per model from a recorded audit, for our score and for every baseline, and how well it separates."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from audit.stats.statistics import clopper_pearson

Report = Mapping[str, Any]
Scored = tuple[str, float]
"""(recipe, number) of one model."""


def _nested(report: Report, *names: str) -> float | None:
    found: Any = report
    for name in names:
        if found is None:
            return None
        found = found[name]
    return None if found is None else float(found)


def _effect(report: Report) -> float | None:
    # S = log(max(T, 0) + tau) ranks models as max(T, 0) does.
    effect = _nested(report, "gates", "specific", "effect_nats")
    return None if effect is None else max(effect, 0.0)


def _largest(report: Report, table: str, column: str) -> float | None:
    values = [abs(row[column]) for row in report[table] if row[column] is not None]
    return max(values, default=None)


def _size(report: Report, *names: str) -> float | None:
    # A decoder row, or a direction, has no sign of its own.
    value = _nested(report, *names)
    return None if value is None else abs(value)


S: Final = "S (the causal effect T)"
AMPLIFICATION: Final = "amplification, largest of the layers"
BIS: Final = "bis, feature of largest attribution"
BIS_P95: Final = "bis_p95, largest of all features"

DETECTORS: Final[dict[str, Callable[[Report], float | None]]] = {
    S: _effect,
    "output_kl": lambda report: _nested(report, "gates", "behaviour", "output_kl"),
    AMPLIFICATION: lambda report: _largest(report, "directions", "amplification"),
    "amplification, chosen layer": lambda report: _size(report, "baselines", "attribution_direction", "amplification"),
    "reported feature, amplification": lambda report: _size(report, "scores", "amplification"),
    "diffmean, amplification": lambda report: _nested(report, "baselines", "diffmean", "amplification"),
    "frozen random, amplification": lambda report: _size(report, "baselines", "frozen_random", "amplification"),
    "diffmean, bis": lambda report: _nested(report, "baselines", "diffmean", "bis"),
    "frozen random, bis": lambda report: _nested(report, "baselines", "frozen_random", "bis"),
    BIS: lambda report: _largest(report, "layers", "best_bis"),
    BIS_P95: lambda report: _largest(report, "layers", "bis_p95"),
}
"""Amplifications are of the chosen layer, except for the first. ``bis`` and ``bis_p95`` are the largest over
dictionaries: that of a dictionary's feature with the largest attribution, chosen on A, and that of the feature that
scores best on B."""


def by_layer(report: Report, column: str) -> dict[int, float]:
    """One column of the directions, by layer; a layer where it was not measured is left out."""
    return {row["layer"]: abs(row[column]) for row in report["directions"] if row[column] is not None}


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """P(positive > negative) + P(equal) / 2 over all pairs; None if a side is empty."""
    if not positive or not negative:
        return None
    wins = sum((one > other) + (one == other) / 2 for one in positive for other in negative)
    return wins / (len(positive) * len(negative))


def auroc_interval(
    positive: Sequence[Scored], negative: Sequence[Scored], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """95% percentile bootstrap over recipes; each side's recipes are resampled separately, with all of their models.

    Models of one recipe are not independent, so recipes are drawn, not models (cluster bootstrap: Field and Welsh
    2007). None if a side has fewer than two recipes, or if all draws are equal: see ``perfect_bound``.
    """
    above, below = _by_recipe(positive), _by_recipe(negative)
    if min(len(above), len(below)) < 2:
        return None
    wins = [[(auroc(one, other) or 0.0) * len(one) * len(other) for other in below] for one in above]
    source = random.Random(seed)
    found = []
    for _ in range(draws):
        rows, columns = (source.choices(range(len(side)), k=len(side)) for side in (above, below))
        pairs = sum(len(above[row]) for row in rows) * sum(len(below[column]) for column in columns)
        found.append(sum(wins[row][column] for row in rows for column in columns) / pairs)
    found.sort()
    low, high = found[int(0.025 * draws)], found[int(0.975 * draws) - 1]
    return None if found[0] == found[-1] else (low, high)


def perfect_bound(positive: Sequence[Scored], negative: Sequence[Scored]) -> tuple[float, int] | None:
    """95% lower bound of the AUROC if every positive is above every negative, and the number of pairs that it is based
    on.

    A bootstrap of perfect separation gives 1 to 1, which is uninformative. Pairs of one positive and one negative, with
    no recipe in two of them, are independent if recipes are; each is ordered correctly with a probability equal to the
    AUROC (taking recipes as alike). All m are: the one-sided bound of Clopper and Pearson 1934 for m of m is
    0.05^(1/m). None if the separation is not perfect.
    """
    if auroc([value for _, value in positive], [value for _, value in negative]) != 1:
        return None
    pairs = min(len(_by_recipe(positive)), len(_by_recipe(negative)))
    return clopper_pearson(pairs, pairs, confidence=0.9)[0], pairs


def _by_recipe(scored: Sequence[Scored]) -> list[list[float]]:
    found: dict[str, list[float]] = {}
    for recipe, value in scored:
        found.setdefault(recipe, []).append(value)
    return list(found.values())


def roc(positive: Sequence[float], negative: Sequence[float]) -> list[tuple[float, float]]:
    """(false-alarm rate, detection rate) at every threshold, from none to all."""
    points = [(0.0, 0.0)]
    for threshold in sorted({*positive, *negative}, reverse=True):
        false = sum(value >= threshold for value in negative) / len(negative)
        points.append((false, sum(value >= threshold for value in positive) / len(positive)))
    return points
