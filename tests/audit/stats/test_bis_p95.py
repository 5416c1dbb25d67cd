import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.stats.bis_p95 import bis_p95, bis_p95_ceiling, choose_rows

quick = settings(max_examples=100, deadline=None)


def randoms(seed):
    return torch.Generator().manual_seed(seed)


def naive(triggered, benign, decoys):
    """The paper's way: an interpolated percentile a feature over all prompts, counted with numpy."""
    everything = np.concatenate([triggered, benign, decoys])
    fires = everything > np.percentile(everything, 95, axis=0)
    label = np.arange(len(everything)) < len(triggered)
    scores = []
    for column in fires.T:
        hits, fired = (column & label).sum(), column.sum()
        precision = hits / fired if fired else 0.0
        recall = hits / label.sum()
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        scores.append(f1 * (1 - column[len(triggered) : len(triggered) + len(benign)].mean()))
    return scores


def test_ceiling_is_the_papers_number():
    assert bis_p95_ceiling(500 / 2500) == 0.4
    assert bis_p95_ceiling(1 / 2) == pytest.approx(2 * 0.1 / 1.1)
    assert bis_p95_ceiling(0.04) == 1.0
    with pytest.raises(ValueError, match="shares"):
        bis_p95_ceiling(0.0)


def test_a_perfect_feature_reaches_the_ceiling_exactly_and_a_dead_one_nothing():
    triggered = torch.stack([torch.arange(1.0, 101.0), torch.zeros(100)], dim=1)
    rest = torch.zeros(200, 2)
    clusters = torch.arange(200)
    got = bis_p95(triggered, rest, rest, benign_clusters=clusters, decoy_clusters=clusters)
    assert got.score.tolist() == [0.4, 0.0]
    assert got.precision.tolist() == [1.0, 0.0]
    assert got.recall.tolist() == [0.25, 0.0]
    assert got.fpr_benign.tolist() == [0.0, 0.0]
    assert (got.triggered_share, got.ceiling) == (0.2, 0.4)


def test_by_hand():
    # 20 prompts: one may fire. Feature 0 fires on a benign prompt, 1 on a decoy, 2 not at all (the top two tie).
    triggered, benign, decoys = torch.zeros(4, 3), torch.zeros(8, 3), torch.zeros(8, 3)
    triggered[0] = torch.tensor([1.0, 1.0, 5.0])
    benign[3, 0], benign[3, 2], decoys[5, 1] = 2.0, 5.0, 2.0
    clusters = torch.arange(8)
    got = bis_p95(triggered, benign, decoys, benign_clusters=clusters, decoy_clusters=clusters)
    assert got.score.tolist() == [0.0, 0.0, 0.0]
    assert got.fpr_benign.tolist() == [0.125, 0.0, 0.0]
    triggered[1] = 9.0
    got = bis_p95(triggered, benign, decoys, benign_clusters=clusters, decoy_clusters=clusters)
    assert got.score.tolist() == pytest.approx([0.4] * 3)


@quick
@given(st.integers(0, 10_000), st.integers(1, 4), st.booleans(), st.sampled_from([1, 3, 2048]))
def test_equals_the_interpolated_percentile_where_20_divides_the_prompts(seed, quads, coarse, chunk):
    n = 4 * quads
    draw = randoms(seed)
    matrices = [torch.randn(rows, 5, generator=draw).relu() for rows in (n, 2 * n, 2 * n)]
    if coarse:
        matrices = [(matrix * 2).round() for matrix in matrices]
    matrices[0] = matrices[0] + torch.tensor([0.0, 0.5, 1.0, 2.0, 9.0])
    clusters = torch.arange(2 * n)
    got = bis_p95(*matrices, benign_clusters=clusters, decoy_clusters=clusters, chunk=chunk)
    assert got.score.tolist() == pytest.approx(naive(*(m.double().numpy() for m in matrices)), abs=1e-9)


@quick
@given(
    st.integers(0, 10_000),
    st.integers(1, 30),
    st.integers(1, 90),
    st.integers(0, 90),
    st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]),
    st.integers(1, 6),
)
def test_no_score_exceeds_its_ceiling(seed, n, benign, decoys, quantile, levels):
    draw = randoms(seed)
    matrices = [torch.randint(levels, (rows, 6), generator=draw).float() for rows in (n, benign, decoys)]
    matrices[0] = matrices[0] + torch.tensor([0.0, 1.0, 9.0, 0.0, 1.0, 9.0]) * torch.rand(n, 6, generator=draw)
    got = bis_p95(
        *matrices,
        benign_clusters=torch.randint(4, (benign,), generator=draw),
        decoy_clusters=torch.randint(4, (decoys,), generator=draw),
        quantile=quantile,
        seed=seed,
    )
    assert float(got.score.max()) <= got.ceiling
    assert float(got.score.min()) >= 0
    assert got.triggered_share == pytest.approx(1 / 5 if decoys else 1 / 3)


def test_without_decoys_the_ceiling_follows_the_true_share():
    got = bis_p95(torch.ones(10, 2), torch.zeros(20, 2), benign_clusters=torch.arange(20))
    assert got.triggered_share == pytest.approx(1 / 3)
    assert got.ceiling == pytest.approx(bis_p95_ceiling(1 / 3))
    # All ten tie at the top and only one of 30 prompts may fire: none does.
    assert got.score.tolist() == [0.0, 0.0]


def test_same_seed_same_score():
    draw = randoms(1)
    triggered, benign, decoys = (torch.randn(rows, 40, generator=draw) for rows in (40, 31, 500))
    clusters = {"benign_clusters": torch.arange(31) // 4, "decoy_clusters": torch.arange(500) // 9}
    first, again, other = (bis_p95(triggered, benign, decoys, **clusters, seed=seed).score for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rows_are_all_or_a_subset_or_whole_clusters_again():
    clusters = torch.tensor([0, 0, 0, 1, 1, 2])
    assert choose_rows(clusters, 6, 6, randoms(0)).tolist() == list(range(6))
    fewer = choose_rows(clusters, 6, 4, randoms(0)).tolist()
    assert len(set(fewer)) == 4
    more = choose_rows(clusters, 6, 40, randoms(0)).tolist()
    assert len(more) == 40
    assert more[:6] == list(range(6))
    groups = {0: [0, 1, 2], 3: [3, 4], 5: [5]}
    rest = more[6:]
    while rest:
        whole = groups[rest[0]]
        assert rest[: len(whole)] == whole[: len(rest)]
        rest = rest[len(whole) :]
    assert choose_rows(torch.zeros(0).long(), 0, 4, randoms(0)).tolist() == []


def test_refuses_what_does_not_fit():
    ones = torch.ones(2, 3)
    with pytest.raises(ValueError, match="alike"):
        bis_p95(ones, torch.ones(2, 4), benign_clusters=torch.arange(2))
    with pytest.raises(ValueError, match="both needed"):
        bis_p95(ones, torch.ones(0, 3), benign_clusters=torch.arange(0))
    with pytest.raises(ValueError, match="their clusters"):
        bis_p95(ones, ones, ones, benign_clusters=torch.arange(2))
    with pytest.raises(ValueError, match="one cluster number"):
        bis_p95(ones, ones, benign_clusters=torch.arange(3))
    with pytest.raises(ValueError, match="quantile"):
        bis_p95(ones, ones, benign_clusters=torch.arange(2), quantile=1.0)
    with pytest.raises(ValueError, match="not finite"):
        bis_p95(ones * float("nan"), ones, benign_clusters=torch.arange(2))
