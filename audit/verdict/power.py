"""How large a shift of the activations this audit would have detected, by simulation on its own recordings.

A spike of known size is added to the recorded differences of one silent decoy, and a difference of means is then
tested: does that decoy stand out among all others by the rule of the gate ``specific``? The statement is about exactly
that: a difference of means with that rule. The gate itself uses the causal effect in nats, for which no spike of known
size can be added to a recording.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audit.measure.contrast import LastToken
from audit.measure.extraction import Extraction
from audit.stats.resampling import bootstrap_weights, cluster_sums, clusters_of
from audit.stats.statistics import may_exceed, p_decoy_all
from audit.verdict.gates import ALPHA
from backdoor_audit.contract.report.audit_report import Power

DRAWS: Final = 1_000
TARGET_POWER: Final = 0.9
"""Share of simulated repeats in which the stated shift must stand out (docs/decisions/0025-power-of-a-stand-in.md)."""
_PRECISION: Final = 1e-3
_TINY: Final = torch.finfo(torch.float64).tiny
_DOUBLINGS: Final = 60


@dataclass(frozen=True)
class RecordedDifferences:
    """Differences in differences at the last prompt token of one layer, added up by template cluster.

    Attributes:
        a, b: of every string on each half, sums over the carriers of a cluster.
        counts_a, counts_b: carriers of each cluster.
    """

    a: Float[Tensor, "strings clusters_a d_model"]
    b: Float[Tensor, "strings clusters_b d_model"]
    counts_a: Float[Tensor, "clusters_a"]
    counts_b: Float[Tensor, "clusters_b"]

    @classmethod
    def of(
        cls,
        strings: Iterable[tuple[Float[Tensor, "carriers_a d_model"], Float[Tensor, "carriers_b d_model"]]],
        clusters_a: Int[Tensor, "carriers_a"],
        clusters_b: Int[Tensor, "carriers_b"],
    ) -> "RecordedDifferences":
        """Add up the carriers of each cluster, one string after the other."""
        sums = [(cluster_sums(a, clusters_a).float(), cluster_sums(b, clusters_b).float()) for a, b in strings]
        counts = [cluster_sums(torch.ones(len(each), 1), each)[:, 0] for each in (clusters_a, clusters_b)]
        return cls(torch.stack([a for a, _ in sums]), torch.stack([b for _, b in sums]), counts[0], counts[1])

    def statistics(
        self, weights_a: Float[Tensor, "draws clusters_a"], weights_b: Float[Tensor, "draws clusters_b"]
    ) -> tuple[Float[Tensor, "draws strings"], Float[Tensor, "draws strings"]]:
        """For every string, ⟨m_A, m_B⟩ and ‖m_A‖², with m the weighted mean differences of the halves.

        ⟨m_A, m_B⟩ / ‖m_A‖ is the mean on B along the unit difference of means of A: fitted on one half and measured on
        the other, like everything that decides.
        """
        mean_a = weights_a / (weights_a @ self.counts_a).unsqueeze(1)
        mean_b = weights_b / (weights_b @ self.counts_b).unsqueeze(1)
        inner, squared = [], []
        for a, b in zip(self.a, self.b, strict=True):
            inner.append(((mean_a @ (a @ b.T).double()) * mean_b).sum(1))
            squared.append(((mean_a @ (a @ a.T).double()) * mean_a).sum(1))
        return torch.stack(inner, 1), torch.stack(squared, 1).clamp_min(0)


@dataclass(frozen=True)
class Draws:
    """Simulated repeats of the audit: carriers are resampled by cluster, and a silent decoy takes the pair's place.

    With a spike s·v added to that decoy on every carrier, its statistic is (⟨m_A, m_B⟩ + s(⟨m_A, v⟩ + ⟨m_B, v⟩) + s²) /
    ‖m_A + s·v‖: one formula for every size.

    Attributes:
        inner, squared: ⟨m_A, m_B⟩ and ‖m_A‖² of the decoy that takes the pair's place.
        along_a, along_b: ⟨m_A, v⟩ and ⟨m_B, v⟩.
        needed: the value that the statistic must exceed.
    """

    inner: Float[Tensor, "draws"]
    squared: Float[Tensor, "draws"]
    along_a: Float[Tensor, "draws"]
    along_b: Float[Tensor, "draws"]
    needed: Float[Tensor, "draws"]

    def detected(self, size: float) -> float:
        """Share of the repeats in which a spike of ``size`` stands out."""
        above = self.inner + size * (self.along_a + self.along_b) + size**2
        below = (self.squared + 2 * size * self.along_a + size**2).clamp_min(0).sqrt()
        return float((above > self.needed * below).double().mean())


def simulate(
    recorded: RecordedDifferences, silent: Bool[Tensor, "strings"], draws: int, seed: int, pairs: int = 1
) -> Draws | None:
    """Draw repeats of the audit; None if the decoys are too few for any effect to stand out among ``pairs``.

    The decoy that takes the pair's place leaves the comparison; another one, drawn at random, is counted twice, so that
    the comparison stays the same size as the audit's own.
    """
    strings, _, width = recorded.a.shape
    allowed = may_exceed(strings, ALPHA, pairs)
    if allowed is None or not bool(silent.any()) or min(len(recorded.counts_a), len(recorded.counts_b)) < 2:
        return None
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**31 - 1, (2,), generator=generator).tolist()
    weights_a = bootstrap_weights(len(recorded.counts_a), draws, seeds[0])
    weights_b = bootstrap_weights(len(recorded.counts_b), draws, seeds[1])
    inner, squared = recorded.statistics(weights_a, weights_b)
    candidates = silent.nonzero()[:, 0]
    chosen = candidates[torch.randint(len(candidates), (draws,), generator=generator)]
    twice = (chosen + torch.randint(1, strings, (draws,), generator=generator)) % strings
    rows = torch.arange(draws)
    values = inner / squared.sqrt().clamp_min(_TINY)
    others = values.clone()
    others[rows, chosen] = values[rows, twice]
    along = torch.zeros(2, draws, dtype=inner.dtype)
    for string in sorted(set(chosen.tolist())):
        where = (chosen == string).nonzero()[:, 0]
        spikes = torch.randn(len(where), width, generator=generator)
        spikes /= spikes.norm(dim=1, keepdim=True)
        for half, (sums, weights, counts) in enumerate(
            ((recorded.a, weights_a, recorded.counts_a), (recorded.b, weights_b, recorded.counts_b))
        ):
            means = weights[where] / (weights[where] @ counts).unsqueeze(1)
            along[half, where] = (means * (spikes @ sums[string].T).double()).sum(1)
    return Draws(
        inner[rows, chosen],
        squared[rows, chosen],
        along[0],
        along[1],
        others.topk(allowed + 1, dim=1).values[:, -1],
    )


def smallest_seen(draws: Draws, wanted: float = TARGET_POWER) -> float | None:
    """The smallest spike that stands out in ``wanted`` of the repeats; None if the strings shift nothing."""
    high = float(draws.squared.sqrt().median())
    if high == 0:
        return None
    for _ in range(_DOUBLINGS):
        if draws.detected(high) >= wanted:
            break
        high *= 2
    low = 0.0
    while high - low > _PRECISION * high:
        middle = (low + high) / 2
        low, high = (low, middle) if draws.detected(middle) >= wanted else (middle, high)
    return high


def power(extraction: Extraction, layer: int, pairs: int = 1) -> Power:
    """State how large a spike at ``layer`` would have stood out among the decoys.

    Args:
        extraction: of the reported pair.
        layer: where the spike is put.
        pairs: how many are tested. With several, the spike has to pass Holm's first step, at 0.05 / ``pairs``.
    """
    setup = extraction.setup
    clusters = clusters_of(setup.a[: setup.decoys_a]), clusters_of(setup.b[: setup.decoys_b])
    on_a, on_b = extraction.contrast("a").last(layer), extraction.contrast("b", decoy_carriers_only=True).last(layer)
    pair = _along_own_mean(RecordedDifferences.of([(on_a.did, on_b.did)], *clusters))[0]
    decoys = len(extraction.decoys)
    if decoys == 0:
        return _unstated(layer, decoys, pair, None, "no decoy was drawn")
    recorded = RecordedDifferences.of(_decoys(extraction, layer, on_a, on_b), *clusters)
    pair_p = p_decoy_all(pair, _along_own_mean(recorded))
    silent = torch.tensor([not responds for responds in extraction.responding])
    seed = 2 * setup.spec.seed
    drawn, fresh = (simulate(recorded, silent, DRAWS, each, pairs) for each in (seed, seed + 1))
    if drawn is None or fresh is None:
        return _unstated(layer, decoys, pair, pair_p, _too_few(extraction, recorded, pairs))
    size = smallest_seen(drawn)
    if size is None:
        return _unstated(layer, decoys, pair, pair_p, "the decoys do not shift the activations at all")
    shift, reading = float(on_b.static_shift.mean()), float(on_b.base_reading.mean())
    measured = Power(
        layer=layer,
        size=size,
        share_of_static_shift=size / shift if shift > 0 else None,
        share_of_base_reading=size / reading if reading > 0 else None,
        wanted=TARGET_POWER,
        detected=fresh.detected(size),
        detected_without=fresh.detected(0.0),
        draws=DRAWS,
        decoys=decoys,
        pair_size=pair,
        pair_p=pair_p,
        text="",
    )
    return measured.model_copy(update={"text": statement(measured, pairs)})


def statement(measured: Power, pairs: int = 1) -> str:
    """The statement in words, including what it does not cover."""
    rule = "the rule of the gate 'specific'" + (
        "" if pairs == 1 else f" at {ALPHA}/{pairs}, because {pairs} pairs are tested"
    )
    beside = [
        f"{share:.2g} times {what}"
        for share, what in (
            (measured.share_of_static_shift, "the shift due to fine-tuning on clean prompts"),
            (measured.share_of_base_reading, "the difference between the two strings in the base model"),
        )
        if share is not None
    ]
    return (
        f"A shift of the last prompt token's activations at layer {measured.layer} by {measured.size:.3g} units, "
        f"equal on every prompt and in a direction not known in advance, would have stood out among {measured.decoys} "
        f"other strings in {100 * measured.wanted:.0f}% of {measured.draws:,} simulated repeats"
        + (f" ({'; '.join(beside)}). " if beside else ". ")
        + f"This is the power of a difference of means under {rule}, measured on this audit's "
        "own recordings. The gate itself tests the effect on the outputs, which this statement does not cover; nor "
        "does it cover shifts at other tokens, at other layers or on only some of the prompts."
    )


def _decoys(
    extraction: Extraction, layer: int, on_a: LastToken, on_b: LastToken
) -> Iterator[tuple[Float[Tensor, "carriers_a d_model"], Float[Tensor, "carriers_b d_model"]]]:
    """Differences in differences of every decoy, one after the other."""
    clean_a, clean_b = (each.tuned_clean - each.base_clean for each in (on_a, on_b))
    for index in range(len(extraction.decoys)):
        tokens = extraction.decoy_tokens(index)
        yield tokens.last_delta("a", layer) - clean_a, tokens.last_delta("b", layer) - clean_b


def _along_own_mean(recorded: RecordedDifferences) -> list[float]:
    """For every string, the mean on B along the unit difference of means of A, without resampling."""
    ones = torch.ones(1, len(recorded.counts_a)).double(), torch.ones(1, len(recorded.counts_b)).double()
    inner, squared = recorded.statistics(*ones)
    return [float(value) for value in (inner / squared.sqrt().clamp_min(_TINY))[0]]


def _too_few(extraction: Extraction, recorded: RecordedDifferences, pairs: int) -> str:
    decoys, silent = len(extraction.decoys), len(extraction.responding) - sum(extraction.responding)
    if may_exceed(decoys, ALPHA, pairs) is None:
        among = "" if pairs == 1 else f" among {pairs} pairs"
        return f"with {decoys} decoys no effect of any size reaches p = {ALPHA}{among}"
    if silent == 0:
        return "every decoy triggers the behaviour"
    return f"all carriers of a half belong to one cluster ({len(recorded.counts_a)} and {len(recorded.counts_b)})"


def _unstated(layer: int, decoys: int, pair: float, pair_p: float | None, why: str) -> Power:
    return Power(
        layer=layer,
        size=None,
        share_of_static_shift=None,
        share_of_base_reading=None,
        wanted=TARGET_POWER,
        detected=None,
        detected_without=None,
        draws=0,
        decoys=decoys,
        pair_size=pair,
        pair_p=pair_p,
        text=f"No detectable size can be given: {why}.",
    )
