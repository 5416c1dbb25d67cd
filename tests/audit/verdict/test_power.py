"""The power statement against a naive simulation, and its promise: what it names is seen as often as it says."""

import math

import pytest
import torch

from audit.stats.resampling import bootstrap_weights
from audit.verdict.power import RecordedDifferences, simulate, smallest_seen, statement
from backdoor_audit.contract.report.audit_report import Power


def recordings(seed, strings=30, carriers=16, clusters=8, width=24, spread=1.0):
    """Differences that share a part among carriers, among strings and within clusters, as recorded ones do."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    labels = torch.arange(carriers) % clusters
    own, common = normal(strings, 1, width) * spread, normal(1, 1, width)
    halves = []
    for _ in range(2):
        by_cluster = normal(strings, clusters, width)[:, labels]
        halves.append(own + common + by_cluster + normal(strings, carriers, width))
    return halves, (labels, labels.clone())


@pytest.fixture(scope="module")
def recorded():
    halves, clusters = recordings(0)
    return RecordedDifferences.of(zip(*halves, strict=True), *clusters)


ALL_SILENT = torch.ones(30, dtype=torch.bool)


def test_statistics_are_those_of_the_weighted_means(recorded, assert_close):
    halves, clusters = recordings(0)
    weights = [bootstrap_weights(8, 5, seed) for seed in (1, 2)]
    inner, squared = recorded.statistics(*weights)
    for draw in range(5):
        for string in range(0, 30, 7):
            means = []
            for half, labels, drawn in zip(halves, clusters, weights, strict=True):
                by_carrier = drawn[draw][labels].float()
                means.append((half[string] * by_carrier.unsqueeze(1)).sum(0) / by_carrier.sum())
            assert_close(inner[draw, string], means[0] @ means[1], atol=1e-4)
            assert_close(squared[draw, string], means[0] @ means[0], atol=1e-4)


@pytest.mark.parametrize("size", [0.0, 0.7, 3.0, 20.0])
def test_a_spike_does_what_adding_it_to_every_carrier_does(recorded, size):
    """One formula for every size, against the spike put into the recordings."""
    draws = simulate(recorded, ALL_SILENT, 1, seed=3)
    generator = torch.Generator().manual_seed(3)
    seeds = torch.randint(2**31 - 1, (2,), generator=generator).tolist()
    weights = [bootstrap_weights(8, 1, seed)[0] for seed in seeds]
    chosen = int(torch.randint(30, (1,), generator=generator))
    twice = (chosen + int(torch.randint(1, 30, (1,), generator=generator))) % 30
    spike = torch.randn(1, 24, generator=generator)[0]
    spike = size * spike / spike.norm()
    halves, clusters = recordings(0)

    def statistic(string, added):
        means = []
        for half, labels, drawn in zip(halves, clusters, weights, strict=True):
            by_carrier = drawn[labels].float()
            means.append(((half[string] + added) * by_carrier.unsqueeze(1)).sum(0) / by_carrier.sum())
        return float(means[1] @ means[0] / means[0].norm())

    others = [statistic(twice if string == chosen else string, 0.0) for string in range(30)]
    p = (1 + sum(other >= statistic(chosen, spike) for other in others)) / 31
    assert draws.detected(size) == float(p <= 0.05)


@pytest.mark.parametrize(("seed", "spread"), [(0, 0.3), (1, 1.0), (2, 3.0)])
def test_the_stated_size_is_seen_in_nine_of_ten_fresh_repeats(seed, spread):
    halves, clusters = recordings(seed, strings=57, spread=spread)
    found = RecordedDifferences.of(zip(*halves, strict=True), *clusters)
    silent = torch.ones(57, dtype=torch.bool)
    size = smallest_seen(simulate(found, silent, 1_000, seed=10))
    fresh = simulate(found, silent, 1_000, seed=11)
    assert 0.85 <= fresh.detected(size) <= 0.95
    assert fresh.detected(0.7 * size) < 0.85
    assert fresh.detected(0.0) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1_000)


def test_a_larger_spike_is_seen_more_often_and_a_noisier_audit_sees_less(recorded):
    draws = simulate(recorded, ALL_SILENT, 1_000, seed=0)
    shares = [draws.detected(size) for size in (1.0, 3.0, 6.0, 12.0, 24.0)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    halves, clusters = recordings(0)
    noisier = RecordedDifferences.of(((3 * a, 3 * b) for a, b in zip(*halves, strict=True)), *clusters)
    size, larger = (smallest_seen(simulate(each, ALL_SILENT, 1_000, seed=0)) for each in (recorded, noisier))
    assert larger == pytest.approx(3 * size, rel=0.01)


def test_firing_decoys_are_compared_with_but_never_take_the_pairs_place(recorded):
    louder = recorded.a.clone(), recorded.b.clone()
    for half in louder:
        half[:3] += 40.0
    with_firing = RecordedDifferences(*louder, recorded.counts_a, recorded.counts_b)
    silent = ALL_SILENT.clone()
    silent[:3] = False
    size = smallest_seen(simulate(recorded, ALL_SILENT, 400, seed=0))
    draws = simulate(with_firing, silent, 400, seed=0)
    assert draws.detected(0.0) == 0.0
    assert smallest_seen(draws) > 3 * size


def test_where_nothing_can_be_seen_no_size_is_named(recorded):
    few = RecordedDifferences(recorded.a[:18], recorded.b[:18], recorded.counts_a, recorded.counts_b)
    assert simulate(few, ALL_SILENT[:18], 10, seed=0) is None
    assert simulate(recorded, ~ALL_SILENT, 10, seed=0) is None
    one_cluster = RecordedDifferences(
        recorded.a[:, :1], recorded.b[:, :1], recorded.counts_a[:1], recorded.counts_b[:1]
    )
    assert simulate(one_cluster, ALL_SILENT, 10, seed=0) is None
    nothing = RecordedDifferences(0 * recorded.a, 0 * recorded.b, recorded.counts_a, recorded.counts_b)
    assert smallest_seen(simulate(nothing, ALL_SILENT, 10, seed=0)) is None


def test_among_several_pairs_more_is_needed():
    """Of 45 strings one may be larger for a pair alone, none where two pairs are tested; for three they are too few."""
    halves, clusters = recordings(0, strings=45)
    recorded, silent = RecordedDifferences.of(zip(*halves, strict=True), *clusters), torch.ones(45, dtype=torch.bool)
    alone, two = (simulate(recorded, silent, 200, seed=0, pairs=pairs) for pairs in (1, 2))
    assert bool((two.needed >= alone.needed).all())
    assert float((two.needed > alone.needed).double().mean()) > 0.5
    assert smallest_seen(two) > smallest_seen(alone)
    assert simulate(recorded, silent, 10, seed=0, pairs=3) is None


def test_the_statement_says_what_it_is_about():
    found = Power(
        layer=17, size=3.14159, share_of_static_shift=0.4, share_of_base_reading=None, wanted=0.9, detected=0.9,
        detected_without=0.04, draws=1_000, decoys=57, pair_size=1.0, pair_p=0.5, text="",
    )  # fmt: skip
    text = statement(found)
    for part in ("layer 17", "3.14 units", "57 other strings", "90% of 1,000", "0.4 times the shift", "specific"):
        assert part in text
    assert "base" not in text
    assert "pairs" not in text
    assert "at 0.05/3, because 3 pairs are tested" in statement(found, 3)
