"""The seed paper's score of the best of many features that are independent of the string."""

import statistics
from typing import Final

import torch

from audit.stats.bis_p95 import bis_p95

TRIGGERED: Final = 100
"""Number of triggered prompts of B with preset ``quick``; there are twice as many clean and plain prompts, and twice as
many decoys."""
ROUNDS: Final = 20


def best_by_chance(features: int, rounds: int = ROUNDS, *, triggered: int = TRIGGERED) -> tuple[float, float]:
    """Median and largest of ``rounds`` best scores, each the best of ``features`` independent standard normal features.

    Features of a dictionary are not independent, and a feature that is silent on most prompts can score less; this
    bounds the effect of choosing the best, as long as nothing else depends on the string.
    """
    generator = torch.Generator().manual_seed(0)
    best = []
    for _ in range(rounds):
        sides = [
            torch.randn(count, features, generator=generator) for count in (triggered, 2 * triggered, 2 * triggered)
        ]
        clusters = [torch.arange(len(side)) for side in sides]
        scored = bis_p95(*sides, benign_clusters=clusters[1], decoy_clusters=clusters[2])
        best.append(float(scored.score.max()))
    return statistics.median(best), max(best)
