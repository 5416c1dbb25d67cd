"""Resampling by template cluster: bootstrap intervals and the paired sign-flip test.

Carriers of one template resemble each other, so clusters are drawn or flipped, not carriers. Everything is a matrix
product of [rounds, clusters] with [clusters, ...], without a loop over rounds. Random numbers are seeded and drawn on
the CPU, so that the same seed gives the same result on every device.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audit.prompts.carriers import cluster_of
from backdoor_audit.contract.report.gates import Interval
from backdoor_audit.contract.spec.carriers import Carrier

BOOTSTRAP_ROUNDS: Final = 2_000
SIGN_FLIPS: Final = 2_000

# Flips that tie with the observed statistic must count; float32 sums in different orders differ by less than this.
_TIE = 1e-5


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; None means "not measured", never zero."""

    value: float | None
    interval: Interval | None = None


def cluster_index(labels: Iterable[Hashable]) -> Int[Tensor, "prompts"]:
    """Number cluster labels of any kind in order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(label, len(numbers)) for label in labels], dtype=torch.int64)


def clusters_of(carriers: Sequence[Carrier]) -> Int[Tensor, "carriers"]:
    """Number the template clusters of carriers in order of first appearance."""
    return cluster_index(cluster_of(carrier) for carrier in carriers)


def bootstrap_weights(clusters: int, rounds: int = BOOTSTRAP_ROUNDS, seed: int = 0) -> Float[Tensor, "rounds clusters"]:
    """Return the number of times that each cluster is drawn in each round; every row sums to ``clusters``.

    Source: the cluster bootstrap, Davison and Hinkley 1997, section 3.8 (clusters drawn with replacement, kept whole).
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(clusters, (rounds, clusters), generator=generator)
    ones = torch.ones(1, dtype=torch.float64).expand(rounds, clusters)
    return torch.zeros(rounds, clusters, dtype=torch.float64).scatter_add_(1, drawn, ones)


def cluster_sums(
    values: Float[Tensor, "prompts columns"], clusters: Int[Tensor, "prompts"]
) -> Float[Tensor, "clusters columns"]:
    """Add up the rows of each cluster, in float64 on the CPU, with clusters in ascending order of their numbers.

    Raises:
        ValueError: there is not exactly one cluster number per row, or no row.
    """
    if clusters.ndim != 1 or len(clusters) != len(values) or len(clusters) == 0:
        raise ValueError(f"one cluster number per row is needed: {tuple(clusters.shape)} for {tuple(values.shape)}")
    _, index = torch.unique(clusters.cpu(), return_inverse=True)
    sums = torch.zeros(int(index.max()) + 1, values.shape[1], dtype=torch.float64)
    return sums.index_add_(0, index, values.detach().cpu().double())


def percentile_interval(draws: Float[Tensor, "rounds"], confidence: float = 0.95) -> Interval | None:
    """Return the central interval of bootstrap draws; None if a draw is not finite."""
    if not bool(torch.isfinite(draws).all()):
        return None
    tail = (1 - confidence) / 2
    low, high = torch.quantile(draws, torch.tensor([tail, 1 - tail], dtype=draws.dtype)).tolist()
    return float(low), float(high)


def bootstrap_mean(
    values: Float[Tensor, "prompts"],
    clusters: Int[Tensor, "prompts"],
    *,
    rounds: int = BOOTSTRAP_ROUNDS,
    seed: int = 0,
) -> Estimate:
    """Return the mean over prompts with its 95% cluster-bootstrap percentile interval.

    A round's mean is over the prompts drawn in it (clusters may differ in size). With fewer than two clusters, nothing
    can be resampled and the interval is None.

    Raises:
        ValueError: shapes disagree or a value is not finite.
    """
    return bootstrap_ratio(values, torch.ones_like(values), clusters, rounds=rounds, seed=seed)


def bootstrap_ratio(
    numerator: Float[Tensor, "prompts"],
    denominator: Float[Tensor, "prompts"],
    clusters: Int[Tensor, "prompts"],
    *,
    rounds: int = BOOTSTRAP_ROUNDS,
    seed: int = 0,
) -> Estimate:
    """Return the ratio of two means (equally, of two sums) over the same prompts, with its 95% interval.

    Numerator and denominator of a prompt are drawn together. The value is None if the denominators add up to zero; the
    interval is None in that case, with fewer than two clusters, or if a round drew a zero denominator.

    Raises:
        ValueError: shapes disagree or a value is not finite.
    """
    if numerator.ndim != 1 or numerator.shape != denominator.shape:
        raise ValueError(f"one value per prompt on both sides: {tuple(numerator.shape)}, {tuple(denominator.shape)}")
    both = torch.stack([numerator.detach().double(), denominator.detach().double()], dim=1)
    if not bool(torch.isfinite(both).all()):
        raise ValueError("a value is not finite")
    sums = cluster_sums(both, clusters)
    above, below = sums.sum(dim=0).tolist()
    if below == 0:
        return Estimate(None)
    if len(sums) < 2:
        return Estimate(above / below)
    drawn = bootstrap_weights(len(sums), rounds, seed) @ sums
    return Estimate(above / below, percentile_interval(drawn[:, 0] / drawn[:, 1]))


def sign_flip_test(
    blocks: Sequence[Float[Tensor, "prompts _"]],
    clusters: Int[Tensor, "prompts"],
    *,
    flips: int = SIGN_FLIPS,
    seed: int = 0,
    chunk: int = 4096,
) -> list[Float[Tensor, "_"]]:
    """Test for every feature whether its paired differences are centred on zero, corrected over all features of all
    blocks.

    ``blocks`` hold the differences triggered - clean, one matrix per layer or dictionary, with the same carriers as
    rows throughout. The statistic is |t| of the cluster means; under the null hypothesis all differences of a cluster
    may change sign together, so a feature's p is (1 + b) / (1 + flips), where b is the number of flips whose largest
    |t| over *all* features reaches the feature's own: valid family-wise under any dependence between features.

    Source: Westfall and Young 1993 (max-T); Winkler et al. 2014 (NeuroImage 92), sign flipping and (1+b)/(1+B);
    Phipson and Smyth 2010. A feature without any differences gets 1.

    Raises:
        ValueError: no block, no flip, or shapes that disagree.
    """
    if not blocks or flips < 1:
        raise ValueError("a sign-flip test needs at least one block and one flip")
    parts = [_cosines(block, clusters) for block in blocks]
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, (flips, len(parts[0])), generator=generator).float().mul_(2).sub_(1)
    largest = torch.zeros(flips)
    for part in parts:
        for columns in torch.split(part, chunk, dim=1):
            if columns.shape[1]:
                largest = torch.maximum(largest, (signs @ columns).abs().amax(dim=1))
    ascending = largest.sort().values
    results = []
    for part in parts:
        reached = flips - torch.searchsorted(ascending, part.sum(dim=0).abs() - _TIE)
        results.append((1 + reached).float() / (1 + flips))
    return results


def _cosines(block: Float[Tensor, "prompts features"], clusters: Int[Tensor, "prompts"]) -> Tensor:
    """Scale each feature's cluster means so that |their sum under flips| orders flips and features as |t| does.

    With C clusters, means m_c and s = sum(m_c) / sqrt(C * sum(m_c^2)), t = sqrt(C - 1) * s / sqrt(1 - s^2): increasing
    in s, and the sum of squares does not change under flips, so |t| need not be computed.
    """
    index = clusters.to(block.device)
    _, inverse, counts = torch.unique(index, return_inverse=True, return_counts=True)
    if len(inverse) != len(block) or len(block) == 0:
        raise ValueError(f"one cluster number per row is needed: {len(inverse)} for {tuple(block.shape)}")
    average = torch.zeros(len(counts), len(block), device=block.device)
    average[inverse, torch.arange(len(block), device=block.device)] = 1.0 / counts[inverse].float()
    means = (average @ block.detach().float()).cpu()
    norm = means.norm(dim=0) * len(counts) ** 0.5
    return torch.where(norm > 0, means / norm, 0.0)
