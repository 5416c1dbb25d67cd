import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.stats.resampling import (
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_weights,
    cluster_index,
    cluster_sums,
    percentile_interval,
    sign_flip_test,
)

quick = settings(max_examples=30, deadline=None)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_cluster_index_numbers_in_order_of_appearance():
    assert cluster_index(["b", "a", "b", ("c", 1)]).tolist() == [0, 1, 0, 2]


def test_bootstrap_weights_draw_as_many_clusters_as_there_are():
    weights = bootstrap_weights(7, rounds=500, seed=3)
    assert weights.sum(dim=1).tolist() == [7.0] * 500
    assert weights.mean().item() == 1.0
    assert float(weights.var()) == pytest.approx(6 / 7, abs=0.05)
    assert torch.equal(weights, bootstrap_weights(7, rounds=500, seed=3))
    assert not torch.equal(weights, bootstrap_weights(7, rounds=500, seed=4))


def test_cluster_sums_by_hand():
    values = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    assert cluster_sums(values, torch.tensor([9, -1, 9])).tolist() == [[2.0, 20.0], [5.0, 50.0]]
    with pytest.raises(ValueError, match="one cluster number"):
        cluster_sums(values, torch.tensor([0, 1]))


def naive_ratio_interval(numerator, denominator, clusters, rounds, seed):
    """Draw clusters one round at a time and keep the prompts whole."""
    labels = sorted(set(clusters.tolist()))
    draws = []
    for weights in bootstrap_weights(len(labels), rounds, seed).int().tolist():
        prompts = [
            prompt
            for label, times in zip(labels, weights, strict=True)
            for _ in range(times)
            for prompt in np.flatnonzero(clusters.numpy() == label)
        ]
        draws.append(numerator.numpy()[prompts].mean() / denominator.numpy()[prompts].mean())
    return tuple(np.percentile(draws, [2.5, 97.5]))


@quick
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_bootstrap_ratio_is_the_loop_over_rounds(seed, count):
    clusters = torch.cat(
        [torch.arange(count), torch.randint(count, (9,), generator=torch.Generator().manual_seed(seed))]
    )
    numerator = normal(len(clusters), seed=seed).double()
    denominator = normal(len(clusters), seed=seed + 1).double().abs() + 0.5
    got = bootstrap_ratio(numerator, denominator, clusters, rounds=60, seed=seed)
    assert got.value == pytest.approx(float(numerator.mean() / denominator.mean()))
    assert got.interval == pytest.approx(naive_ratio_interval(numerator, denominator, clusters, 60, seed))


def test_bootstrap_mean_of_even_clusters_has_the_standard_error_of_the_cluster_means():
    clusters = torch.arange(200).repeat_interleave(5)
    values = normal(200, seed=1).repeat_interleave(5) + 3
    got = bootstrap_mean(values, clusters, rounds=4000)
    assert got.value == pytest.approx(float(values.mean()))
    low, high = got.interval
    # Five equal carriers a cluster are one observation: 1.96 / sqrt(200) each side, not 1.96 / sqrt(1000).
    assert (high - low) / 2 == pytest.approx(1.96 * float(values.std()) / 200**0.5, rel=0.1)


def test_bootstrap_interval_covers_about_as_often_as_it_says():
    clusters = torch.arange(40)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_mean(normal(40, seed=seed), clusters, rounds=300, seed=seed).interval
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_bootstrap_says_what_it_cannot_measure():
    one = torch.ones(3)
    assert bootstrap_mean(one, torch.zeros(3, dtype=torch.int64)) == bootstrap_ratio(one, one, torch.zeros(3).long())
    assert bootstrap_mean(one, torch.zeros(3, dtype=torch.int64)).interval is None
    nothing = bootstrap_ratio(one, torch.zeros(3), torch.arange(3))
    assert (nothing.value, nothing.interval) == (None, None)
    # Half of the clusters have no denominator: some rounds draw only those.
    sparse = bootstrap_ratio(torch.ones(2), torch.tensor([0.0, 1.0]), torch.arange(2))
    assert (sparse.value, sparse.interval) == (2.0, None)
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_mean(torch.tensor([1.0, float("nan")]), torch.arange(2))
    with pytest.raises(ValueError, match="both sides"):
        bootstrap_ratio(torch.ones(2), torch.ones(3), torch.arange(2))


def test_percentile_interval_is_numpys():
    draws = normal(999).double()
    assert percentile_interval(draws) == pytest.approx(tuple(np.percentile(draws.numpy(), [2.5, 97.5])))


def naive_sign_flip(blocks, clusters, flips, seed):
    """One flip, one feature and one t-statistic at a time."""
    labels = sorted(set(clusters.tolist()))
    columns = [
        np.array([column[clusters.numpy() == label].mean() for label in labels], dtype=np.float64)
        for block in blocks
        for column in block.numpy().T
    ]

    def size(means):
        deviation = means.std(ddof=1)
        return 0.0 if not means.any() else abs(means.mean()) / deviation * len(means) ** 0.5 if deviation else np.inf

    signs = torch.randint(2, (flips, len(labels)), generator=torch.Generator().manual_seed(seed)).numpy() * 2 - 1
    largest = [max(size(column * row) for column in columns) for row in signs]
    return [(1 + sum(t >= size(column) - 1e-4 for t in largest)) / (1 + flips) for column in columns]


@quick
@given(st.integers(0, 10_000), st.integers(3, 6), st.sampled_from([1, 2, 4096]))
def test_sign_flip_is_the_loop_over_flips_and_features(seed, count, chunk):
    clusters = torch.cat(
        [torch.arange(count), torch.randint(count, (5,), generator=torch.Generator().manual_seed(seed))]
    )
    first = normal(len(clusters), 3, seed=seed) + torch.tensor([0.0, 0.5, 2.0])
    second = normal(len(clusters), 2, seed=seed + 1)
    second[:, 0] = 0.0
    got = sign_flip_test([first, second], clusters, flips=40, seed=seed, chunk=chunk)
    assert [len(part) for part in got] == [3, 2]
    assert torch.cat(got).tolist() == pytest.approx(naive_sign_flip([first, second], clusters, 40, seed))


def test_sign_flip_finds_the_consistent_feature_and_gives_a_dead_one_1():
    differences = normal(60, 50, seed=5)
    differences[:, 7] += 1.5
    differences[:, 8] = 0.0
    (p,) = sign_flip_test([differences], torch.arange(20).repeat(3), flips=999)
    assert float(p[7]) == pytest.approx(1 / 1000)
    assert float(p[8]) == 1.0
    assert int((p < 0.05).sum()) == 1


def test_sign_flip_of_one_feature_is_the_exact_test_over_all_sign_patterns():
    means = normal(8, 1, seed=2) + 0.4
    patterns = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=8)))
    observed = means.sum().abs()
    exact = float(((patterns @ means).abs() >= observed - 1e-5).float().mean())
    (p,) = sign_flip_test([means], torch.arange(8), flips=20_000)
    assert float(p[0]) == pytest.approx(exact, abs=0.012)


def test_sign_flip_p_is_uniform_under_the_null_and_controls_the_family():
    clusters = torch.arange(16).repeat_interleave(2)
    alone, family = [], []
    for seed in range(400):
        # Carriers of one cluster are alike: a test by carrier would be far too sure.
        differences = normal(16, 6, seed=seed).repeat_interleave(2, dim=0)
        alone.append(float(sign_flip_test([differences[:, :1]], clusters, flips=199, seed=seed)[0]))
        family.append(float(sign_flip_test([differences], clusters, flips=199, seed=seed)[0].min()))
    for level in (0.05, 0.2, 0.5):
        spread = 3 * (level * (1 - level) / 400) ** 0.5
        assert np.mean(np.array(alone) <= level) == pytest.approx(level, abs=spread)
        assert np.mean(np.array(family) <= level) <= level + spread


def test_sign_flip_refuses_what_it_cannot_test():
    with pytest.raises(ValueError, match="at least one block"):
        sign_flip_test([], torch.arange(3))
    with pytest.raises(ValueError, match="one cluster number"):
        sign_flip_test([torch.ones(2, 1)], torch.arange(3))
