import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from audit.stats.statistics import (
    auroc,
    clopper_pearson,
    conformal_p,
    d_z,
    holm,
    may_exceed,
    p_decoy_all,
    rank,
    to_exceed,
    zero_alarm_bound,
)

quick = settings(max_examples=50, deadline=None)


@quick
@given(
    st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95, 0.99])
)
def test_clopper_pearson_is_scipys_exact_interval(counts, confidence):
    successes, trials = counts
    expected = stats.binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="exact")
    assert clopper_pearson(successes, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_clopper_pearson_covers_at_least_as_often_as_it_says():
    trials, share = 25, 0.1
    counts = stats.binom(trials, share)
    covered = sum(
        counts.pmf(k)
        for k in range(trials + 1)
        if clopper_pearson(k, trials)[0] <= share <= clopper_pearson(k, trials)[1]
    )
    assert covered >= 0.95


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 5), (6, 5)])
def test_clopper_pearson_refuses_what_is_no_share(successes, trials):
    with pytest.raises(ValueError, match="no share"):
        clopper_pearson(successes, trials)


def test_clopper_pearson_refuses_a_confidence_of_one():
    with pytest.raises(ValueError, match="confidence"):
        clopper_pearson(1, 2, 1.0)


def test_zero_alarm_bound_is_the_rate_at_which_silence_has_probability_one_in_twenty():
    assert zero_alarm_bound(13) == pytest.approx(0.206, abs=5e-4)
    for models in (1, 2, 59, 1000):
        assert (1 - zero_alarm_bound(models)) ** models == pytest.approx(0.05)
    assert zero_alarm_bound(1000) == pytest.approx(stats.binomtest(0, 1000, alternative="less").proportion_ci().high)
    with pytest.raises(ValueError, match="at least one"):
        zero_alarm_bound(0)


def test_rank_counts_ties_against_the_value():
    assert rank(3.0, [1.0, 2.0]) == 1
    assert rank(3.0, [3.0, 2.0]) == 2
    assert rank(0.0, [3.0, 2.0]) == 3
    assert rank(0.0, []) == 1
    assert rank(math.inf, [1.0]) == 1


@pytest.mark.parametrize(("value", "others"), [(math.nan, [1.0]), (1.0, [math.nan])])
def test_rank_refuses_nan(value, others):
    with pytest.raises(ValueError, match="NaN"):
        rank(value, others)


def test_conformal_and_decoy_p_by_hand():
    assert conformal_p(5.0, [1.0, 2.0, 3.0]) == 1 / 4
    assert conformal_p(2.0, [1.0, 2.0, 3.0]) == 3 / 4
    assert conformal_p(2.0, []) == 1.0
    assert p_decoy_all(9.0, [float(i) for i in range(9)]) == 1 / 10
    assert conformal_p(1.0, [0.0] * 19) <= 0.05 < conformal_p(1.0, [0.0] * 18)


@quick
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.sampled_from([0.05, 0.2, 0.5]))
def test_conformal_p_is_valid_for_every_order_of_exchangeable_scores(scores, alpha):
    small = sum(conformal_p(score, scores[:i] + scores[i + 1 :]) <= alpha for i, score in enumerate(scores))
    assert small <= alpha * len(scores) + 1e-9


@quick
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_the_step_down_procedure(p_values):
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.3):
        # Reject in ascending order until one fails its own bound.
        rejected = set()
        for place, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[i] * (len(p_values) - place) > level:
                break
            rejected.add(i)
        assert {i for i, p in enumerate(adjusted) if p <= level} == rejected


def test_holm_by_hand_and_refusal():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.2])


def test_auroc_by_hand():
    positive = torch.tensor([[1.0, 0.0, 2.0, 0.0], [3.0, 0.0, 1.0, -0.0]])
    negative = torch.tensor([[0.0, 0.0, 2.0, 0.0], [0.5, 0.0, 3.0, 0.0]])
    assert auroc(positive, negative).tolist() == [1.0, 0.5, 0.125, 0.5]


@quick
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12))
def test_auroc_is_the_share_of_won_pairs_and_mann_whitneys_u(seed, positives, negatives):
    generator = torch.Generator().manual_seed(seed)
    # Few distinct values, so that ties are common.
    positive = torch.randint(4, (positives, 3), generator=generator).float()
    negative = torch.randint(4, (negatives, 3), generator=generator).float()
    got = auroc(positive, negative)
    won = (positive[:, None] > negative[None]).double() + (positive[:, None] == negative[None]).double() / 2
    assert got.tolist() == pytest.approx(won.mean(dim=(0, 1)).tolist(), abs=1e-6)
    u = stats.mannwhitneyu(positive.numpy(), negative.numpy(), method="asymptotic").statistic
    assert got.tolist() == pytest.approx((u / (positives * negatives)).tolist(), abs=1e-6)
    assert (auroc(negative, positive) + got).tolist() == pytest.approx([1.0] * 3, abs=1e-6)


def test_auroc_refuses_sides_that_do_not_fit():
    with pytest.raises(ValueError, match="alike"):
        auroc(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="no prompt"):
        auroc(torch.zeros(0, 3), torch.zeros(2, 3))


def test_d_z_is_the_paired_t_over_the_root_of_n():
    before, after = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(0))
    expected = stats.ttest_rel(after.numpy(), before.numpy()).statistic / np.sqrt(30)
    assert d_z(after - before).tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_d_z_is_undefined_where_nothing_varies():
    differences = torch.tensor([[0.0, 0.1, 1.0], [0.0, 0.1, 3.0], [0.0, 0.1, 2.0]])
    dead, constant, plain = d_z(differences).tolist()
    assert math.isnan(dead)
    assert math.isnan(constant)
    assert plain == pytest.approx(2.0)
    assert math.isnan(float(d_z(torch.ones(1, 1))))
    with pytest.raises(ValueError, match="at least one prompt"):
        d_z(torch.zeros(0, 2))


@pytest.mark.parametrize("tests", [1, 2, 3, 7, 50])
def test_how_many_may_exceed_is_counted_exactly(tests):
    for others in range(1_200):
        allowed = [n for n in range(others + 1) if Fraction(1 + n, others + 1) <= Fraction(1, 20 * tests)]
        assert may_exceed(others, 0.05, tests) == max(allowed, default=None)


def test_what_is_to_be_exceeded_is_where_the_p_value_turns():
    others = [0.0, 0.0, *range(1, 44)]
    needed = to_exceed(others, 0.05)
    assert needed == 42
    assert p_decoy_all(needed, others) > 0.05 >= p_decoy_all(needed + 0.1, others)
    assert to_exceed([], 0.05) is None
    with pytest.raises(ValueError, match="NaN"):
        to_exceed([math.nan] * 30, 0.05)
