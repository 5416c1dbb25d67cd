"""One number a model from a recorded audit, for our score and for every baseline; and how well it separates."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

Report = Mapping[str, Any]


def _nested(report: Report, *names: str) -> float | None:
    found: Any = report
    for name in names:
        if found is None:
            return None
        found = found[name]
    return None if found is None else float(found)


def _effect(report: Report) -> float:
    # S = log(max(T, 0) + tau) ranks models as max(T, 0) does.
    return max(_nested(report, "gates", "specific", "effect_nats") or 0.0, 0.0)


def _largest(report: Report, table: str, column: str) -> float | None:
    values = [abs(row[column]) for row in report[table] if row[column] is not None]
    return max(values, default=None)


DETECTORS: Final[dict[str, Callable[[Report], float | None]]] = {
    "S (the causal effect T)": _effect,
    "output_kl": lambda report: _nested(report, "gates", "behaviour", "output_kl"),
    "amplification": lambda report: _largest(report, "directions", "amplification"),
    "diffmean, amplification": lambda report: _nested(report, "baselines", "diffmean", "amplification"),
    "diffmean, bis": lambda report: _nested(report, "baselines", "diffmean", "bis"),
    "bis, best feature": lambda report: _largest(report, "layers", "best_bis"),
    "bis_p95, best feature": lambda report: _largest(report, "layers", "bis_p95"),
    "frozen random, bis": lambda report: _nested(report, "baselines", "frozen_random", "bis"),
    "frozen random, amplification": lambda report: _nested(report, "baselines", "frozen_random", "amplification"),
}


def by_layer(report: Report, column: str) -> dict[int, float]:
    """One column of the directions, by layer; a layer where it was not measured is left out."""
    return {row["layer"]: abs(row[column]) for row in report["directions"] if row[column] is not None}


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """P(positive > negative) + P(equal) / 2 over all pairs; None where a side is empty."""
    if not positive or not negative:
        return None
    wins = sum((one > other) + (one == other) / 2 for one in positive for other in negative)
    return wins / (len(positive) * len(negative))


def auroc_interval(
    positive: Sequence[float], negative: Sequence[float], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """95% percentile bootstrap over models, each side drawn again by itself; None where a side has fewer than two."""
    if len(positive) < 2 or len(negative) < 2:
        return None
    source = random.Random(seed)
    found = sorted(
        auroc(source.choices(positive, k=len(positive)), source.choices(negative, k=len(negative))) or 0.0
        for _ in range(draws)
    )
    return found[int(0.025 * draws)], found[int(0.975 * draws) - 1]


def roc(positive: Sequence[float], negative: Sequence[float]) -> list[tuple[float, float]]:
    """(false-alarm rate, detection rate) at every threshold, from none to all."""
    points = [(0.0, 0.0)]
    for threshold in sorted({*positive, *negative}, reverse=True):
        false = sum(value >= threshold for value in negative) / len(negative)
        points.append((false, sum(value >= threshold for value in positive) / len(positive)))
    return points
