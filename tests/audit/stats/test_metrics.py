import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from audit.stats.metrics import (
    FiringThreshold,
    amplification,
    bis_interval,
    conditional_share,
    feature_metrics,
    firing_threshold,
)
from audit.stats.resampling import bootstrap_weights

quick = settings(max_examples=60, deadline=None)


def randoms(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("prompts", "place", "share"),
    [(1, 1, 1 / 2), (32, 32, 1 / 33), (98, 98, 1 / 99), (99, 99, 0.01), (199, 198, 0.01), (500, 496, 0.01)],
)
def test_threshold_is_the_conformal_order_statistic(prompts, place, share):
    ascending = torch.arange(1.0, prompts + 1)
    clean = ascending[torch.randperm(prompts, generator=randoms(0))][:, None].repeat(1, 3)
    got = firing_threshold(clean, chunk=2)
    assert got.value.tolist() == [place] * 3
    assert got.quantile == pytest.approx(share)


@quick
@given(st.integers(1, 230))
def test_a_new_clean_prompt_fires_at_most_as_often_as_the_quantile_says(prompts):
    # Column i leaves prompt i of n + 1 exchangeable ones out: how many exceed the threshold of the rest?
    values = torch.arange(float(prompts + 1))
    rest = torch.stack([torch.cat([values[:i], values[i + 1 :]]) for i in range(prompts + 1)], dim=1)
    got = firing_threshold(rest)
    assert float((values > got.value).double().mean()) <= got.quantile + 1e-12


def test_firing_by_hand():
    # A detector with one false alarm, one that never fires, one always at its threshold, one that always fires.
    triggered = torch.tensor([[3.0, 0.0, 1.0, 9.0], [2.0, 0.0, 1.0, 9.0], [0.0, 0.0, 1.0, 9.0], [4.0, 0.0, 1.0, 9.0]])
    clean = torch.tensor([[0.0, 0.0, 1.0, 9.0], [2.0, 0.0, 1.0, 9.0], [1.0, 0.0, 1.0, 9.0], [0.0, 0.0, 1.0, 9.0]])
    threshold = FiringThreshold(torch.tensor([1.0, 0.0, 1.0, 1.0]), 0.01)
    got = feature_metrics(triggered, clean, threshold, chunk=3).firing
    assert got.precision.tolist() == [0.75, 0.0, 0.0, 0.5]
    assert got.recall.tolist() == [0.75, 0.0, 0.0, 1.0]
    assert got.fpr.tolist() == [0.25, 0.0, 0.0, 1.0]
    assert got.f1.tolist() == pytest.approx([0.75, 0.0, 0.0, 2 / 3])
    assert got.bis.tolist() == pytest.approx([0.5625, 0.0, 0.0, 0.0])
    expected = stats.binomtest(1, 4).proportion_ci(method="exact")
    assert got.fpr_interval(0) == pytest.approx((expected.low, expected.high))


def naive(triggered, clean, threshold):
    """One feature at a time, from the definitions."""
    rows = []
    for feature, limit in enumerate(threshold.tolist()):
        positive, negative = triggered[:, feature].double().numpy(), clean[:, feature].double().numpy()
        hits, alarms = (positive > limit).sum(), (negative > limit).sum()
        precision = hits / (hits + alarms) if hits + alarms else 0.0
        recall, fpr = hits / len(positive), alarms / len(negative)
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        won = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
        change = positive - negative
        d_z = change.mean() / change.std(ddof=1) if len(change) > 1 and np.ptp(change) > 0 else math.nan
        rows.append([precision, recall, fpr, f1, f1 * (1 - fpr), won, d_z])
    return np.array(rows).T


@quick
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 40), st.sampled_from([1, 4, 2048]))
def test_all_features_at_once_are_the_naive_ones(seed, prompts, prompts_a, chunk):
    draw = randoms(seed)
    clean_a, clean, triggered = (
        (torch.randn(rows, 9, generator=draw) * 2).round().relu() for rows in (prompts_a, prompts, prompts)
    )
    triggered = triggered + torch.arange(9) / 2
    threshold = firing_threshold(clean_a, chunk)
    got = feature_metrics(triggered, clean, threshold, chunk)
    firing = got.firing
    found = [firing.precision, firing.recall, firing.fpr, firing.f1, firing.bis, got.auroc, got.d_z]
    np.testing.assert_allclose(
        torch.stack(found).numpy(), naive(triggered, clean, threshold.value), rtol=1e-4, atol=1e-5
    )
    for index in range(9):
        scores = got.at(index)
        assert 0 <= scores.bis <= scores.f1 <= 1
        assert scores.fpr_interval[0] <= scores.fpr + 1e-6 <= scores.fpr_interval[1] + 2e-6
        assert scores.d_z is None or math.isfinite(scores.d_z)


def test_a_perfect_feature_scores_1_and_a_dead_one_0():
    draw = randoms(0)
    triggered, clean = torch.rand(50, 2, generator=draw) + 1, torch.rand(50, 2, generator=draw)
    triggered[:, 1] = clean[:, 1] = 0.0
    got = feature_metrics(triggered, clean, firing_threshold(torch.tensor([[1.0, 0.0]])))
    perfect, dead = got.at(0), got.at(1)
    assert (perfect.bis, perfect.precision, perfect.recall, perfect.auroc) == (1.0, 1.0, 1.0, 1.0)
    assert (dead.bis, dead.precision, dead.recall, dead.fpr, dead.auroc, dead.d_z) == (0.0, 0.0, 0.0, 0.0, 0.5, None)


def test_half_precision_activations_are_scored_as_they_are():
    draw = randoms(0)
    triggered, clean = (torch.randn(20, 6, generator=draw).bfloat16() for _ in range(2))
    threshold = firing_threshold(clean)
    assert torch.equal(threshold.value, firing_threshold(clean.float()).value)
    # The largest clean activation is the threshold, and does not exceed itself.
    assert feature_metrics(triggered, clean, threshold).firing.fpr.tolist() == [0.0] * 6


def test_no_feature_gives_no_metric():
    nothing = torch.zeros(3, 0)
    assert feature_metrics(nothing, nothing, firing_threshold(nothing)).auroc.shape == (0,)


def test_bis_interval_is_the_loop_over_rounds():
    draw = randoms(4)
    clusters = torch.randint(6, (40,), generator=draw)
    fires_triggered, fires_clean = torch.rand(40, generator=draw) < 0.8, torch.rand(40, generator=draw) < 0.1
    draws = []
    for weights in bootstrap_weights(6, 200, seed=7).int():
        rows = torch.cat([torch.nonzero(clusters == c).flatten() for c in range(6) for _ in range(int(weights[c]))])
        ones = [fires[rows][:, None].float() for fires in (fires_triggered, fires_clean)]
        draws.append(float(feature_metrics(*ones, FiringThreshold(torch.tensor([0.5]), 0.01)).firing.bis))
    got = bis_interval(fires_triggered, fires_clean, clusters, rounds=200, seed=7)
    assert got == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])), abs=1e-6)
    assert bis_interval(fires_triggered, fires_clean, torch.zeros(40).long()) is None
    with pytest.raises(ValueError, match="not paired"):
        bis_interval(fires_triggered, fires_clean[1:], clusters)


def test_bis_interval_of_a_perfect_feature_is_a_point():
    always = torch.ones(12, dtype=torch.bool)
    assert bis_interval(always, ~always, torch.arange(12) // 3) == (1.0, 1.0)


def test_amplification_and_conditional_share_are_ratios_of_means():
    projections, norms = torch.tensor([4.0, 2.0, -1.0, 3.0]), torch.tensor([0.5, 1.0, 1.5, 1.0])
    clusters = torch.tensor([0, 0, 1, 1])
    for measure in (amplification, conditional_share):
        got = measure(projections, norms, clusters)
        assert got.value == pytest.approx(2.0)
        # Two clusters: a round draws the first twice (6 / 1.5), the second twice (2 / 2.5) or both.
        assert got.interval == pytest.approx((0.8, 4.0))
        assert measure(projections, torch.zeros(4), clusters).value is None


def test_refuses_what_does_not_fit():
    ones = torch.ones(2, 3)
    threshold = FiringThreshold(torch.zeros(3), 0.01)
    with pytest.raises(ValueError, match="not paired"):
        feature_metrics(ones, torch.ones(3, 3), threshold)
    with pytest.raises(ValueError, match="3 features where 4"):
        feature_metrics(ones, ones, FiringThreshold(torch.zeros(4), 0.01))
    with pytest.raises(ValueError, match="at least one prompt"):
        firing_threshold(torch.ones(0, 3))
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not finite"):
            feature_metrics(ones * bad, ones, threshold)
        with pytest.raises(ValueError, match="not finite"):
            firing_threshold(ones * bad)
