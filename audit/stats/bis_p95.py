"""The seed paper's score, for comparison only: it is never the verdict.

The paper (arXiv 2605.07324) binarises every feature at its own 95th percentile over all scored texts, and computes BIS
= F1 * (1 - FPR_benign). A feature therefore fires on one text in twenty whatever it represents, so its recall, and with
it the score, is bounded from above by the share of triggered texts: ``bis_p95_ceiling``.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audit.stats.columns import CHUNK, column_chunks, sorted_columns

QUANTILE: Final = 0.95

BENIGN_PER_TRIGGERED: Final = 2
DECOYS_PER_TRIGGERED: Final = 2


@dataclass(frozen=True)
class BisP95:
    """The seed paper's score of every feature.

    Attributes:
        score: F1 * (1 - FPR_benign), float64, so that rounding cannot lift it above the ceiling.
        precision: triggered share of the prompts that fire, decoys counted as negatives; 0 if none fires.
        recall: share of triggered prompts that fire.
        fpr_benign: share of the clean and plain prompts that fire.
        triggered_share: p, triggered prompts over all scored prompts.
        ceiling: the largest score possible at this p.
    """

    score: Float[Tensor, "features"]
    precision: Float[Tensor, "features"]
    recall: Float[Tensor, "features"]
    fpr_benign: Float[Tensor, "features"]
    triggered_share: float
    ceiling: float


def bis_p95_ceiling(triggered_share: float, quantile: float = QUANTILE) -> float:
    """Return the largest score that any feature can have: 2r / (1 + r), r = min(1, (1 - q) / p).

    At most a share 1 - q of the prompts fires, so recall is at most r; F1 is largest at precision 1. The paper's
    p = 1/5 gives 0.4 exactly. Computed in rationals (shares are ratios of prompt counts), so that 0.4 is 0.4.

    Raises:
        ValueError: p or q does not lie in (0, 1].
    """
    if not (0 < triggered_share <= 1 and 0 < quantile <= 1):
        raise ValueError(f"shares lie in (0, 1]: {triggered_share}, {quantile}")
    share = Fraction(triggered_share).limit_denominator(10**6)
    recall = min(Fraction(1), (1 - _exact(quantile)) / share)
    return float(2 * recall / (1 + recall))


def bis_p95(
    triggered: Float[Tensor, "triggered features"],
    benign: Float[Tensor, "benign features"],
    decoys: Float[Tensor, "decoys features"] | None = None,
    *,
    benign_clusters: Int[Tensor, "benign"],
    decoy_clusters: Int[Tensor, "decoys"] | None = None,
    quantile: float = QUANTILE,
    seed: int = 0,
    chunk: int = CHUNK,
) -> BisP95:
    """Score every feature like the seed paper, but on prompts instead of texts with their completions.

    With n triggered prompts, 2n benign ones (clean and plain) and 2n silent decoys are scored, so p = 1/5 as in the
    paper: if there are more, they are subsampled at random; if there are fewer, whole clusters are drawn again. Without
    decoys p is 1/3, and the ceiling is computed accordingly.

    The threshold is an order statistic, not an interpolated percentile: of N prompts the floor((1 - q) N) largest fire,
    except those that tie with the next one. At the paper's N = 2,500 an interpolated percentile gives the same; if N is
    not divisible by 20, interpolation would let one prompt more fire than 1 - q allows, and the score could exceed its
    ceiling. With fewer than 20 prompts nothing fires.

    Raises:
        ValueError: shapes do not match, there is no triggered or no benign prompt, or an activation is not finite.
    """
    sides = [triggered, benign] if decoys is None else [triggered, benign, decoys]
    if any(side.ndim != 2 or side.shape[1] != triggered.shape[1] for side in sides):
        raise ValueError(f"matrices must be [prompts, features] alike: {[tuple(side.shape) for side in sides]}")
    if len(triggered) == 0 or len(benign) == 0:
        raise ValueError("triggered and benign prompts are both needed")
    if not 0 < quantile < 1:
        raise ValueError(f"the quantile lies between 0 and 1, not {quantile}")
    generator = torch.Generator().manual_seed(seed)
    positives = len(triggered)
    rows = [
        torch.arange(positives),
        choose_rows(benign_clusters, len(benign), BENIGN_PER_TRIGGERED * positives, generator),
    ]
    if decoys is not None:
        if decoy_clusters is None:
            raise ValueError("decoys need their clusters")
        rows.append(choose_rows(decoy_clusters, len(decoys), DECOYS_PER_TRIGGERED * positives, generator))
    counts = _firing_counts(sides, rows, quantile, chunk)
    share = positives / sum(len(part) for part in rows)
    return _score(counts, positives, len(rows[1]), share, bis_p95_ceiling(share, quantile))


def choose_rows(
    clusters: Int[Tensor, "prompts"], prompts: int, wanted: int, generator: torch.Generator
) -> Int[Tensor, "wanted"]:
    """Select ``wanted`` row numbers: all of them, a random subset, or all of them plus whole clusters drawn again.

    If there are too few rows, clusters are drawn with replacement until there are enough, and the last one is
    truncated. If there are no rows, none are returned.

    Raises:
        ValueError: there is not exactly one cluster number per row.
    """
    if tuple(clusters.shape) != (prompts,):
        raise ValueError(f"one cluster number per row is needed: {tuple(clusters.shape)} for {prompts} rows")
    if prompts == 0 or prompts == wanted:
        return torch.arange(prompts)
    if prompts > wanted:
        return torch.randperm(prompts, generator=generator)[:wanted].sort().values
    index = clusters.cpu()
    members = [torch.nonzero(index == cluster).flatten() for cluster in torch.unique(index)]
    chosen, total = [torch.arange(prompts)], prompts
    while total < wanted:
        drawn = members[int(torch.randint(len(members), (1,), generator=generator))]
        chosen.append(drawn)
        total += len(drawn)
    return torch.cat(chosen)[:wanted]


def _firing_counts(
    sides: list[Tensor], rows: list[Tensor], quantile: float, chunk: int
) -> Int[Tensor, "sides features"]:
    """Count, for every feature, the prompts of each side on which it is above its own quantile over all prompts."""
    most = int((1 - _exact(quantile)) * sum(len(part) for part in rows))
    parts = []
    for columns in column_chunks(chunk, *sides):
        chosen = [
            column if len(part) == len(column) else column[part.to(column.device)]
            for column, part in zip(columns, rows, strict=True)
        ]
        # The largest value that must not fire is the threshold, and ties with it do not fire.
        threshold = sorted_columns(torch.cat(chosen))[:, -1 - most]
        parts.append(torch.stack([(part > threshold).sum(dim=0) for part in chosen]))
    return torch.cat(parts, dim=1)


def _score(counts: Tensor, positives: int, benign: int, share: float, ceiling: float) -> BisP95:
    hits, fired = counts[0].double(), counts.sum(dim=0).double()
    fpr = counts[1].double() / benign
    return BisP95(
        score=2 * hits / (positives + fired) * (1 - fpr),
        precision=torch.where(fired > 0, hits / fired, 0.0).float(),
        recall=(hits / positives).float(),
        fpr_benign=fpr.float(),
        triggered_share=share,
        ceiling=ceiling,
    )


def _exact(share: float) -> Fraction:
    """Interpret 0.95 as 19/20: the intended number, not the nearest binary one."""
    return Fraction(str(share))
