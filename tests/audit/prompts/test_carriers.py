import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import InvalidAudit
from audit.prompts.carriers import SETS, cluster_of, digest, generate, load_set, split_ab, subsample
from backdoor_audit.contract.spec.carriers import Carrier


@pytest.mark.parametrize("name", SETS)
def test_a_shipped_set_is_large_and_has_many_clusters(name):
    carriers = load_set(name)
    assert len({carrier.prompt for carrier in carriers}) == len(carriers) >= 1_000
    assert len({carrier.cluster for carrier in carriers}) >= 20
    assert all(carrier.cluster for carrier in carriers)


@pytest.mark.parametrize("name", SETS)
def test_shipped_prompts_are_short_and_read_well(name):
    for carrier in load_set(name):
        assert 10 <= len(carrier.prompt.split()) <= 26
        assert "{" not in carrier.prompt
        assert "  " not in carrier.prompt
        assert not any(f" a {vowel}" in f" {carrier.prompt.lower()}" for vowel in "aeio")


def test_the_shipped_files_are_what_the_generator_writes():
    assert generate.main(["--check"]) == 0


def test_the_check_notices_a_changed_file(monkeypatch):
    monkeypatch.setitem(generate.SQL_TEMPLATES, "find-short", "something else about {table} and {column}")
    assert generate.main(["--check"]) == 1


def test_an_unknown_set_is_refused():
    with pytest.raises(InvalidAudit, match="no carrier set"):
        load_set("poems")


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("n", [64, 200, 256, 1_000])
def test_halves_of_a_shipped_set_are_whole_and_share_no_cluster(name, n):
    a, b = split_ab(load_set(name), n, 3)
    assert len(a) == len(b) == n // 2
    assert len({c.prompt for c in a}) == len(a)
    clusters_a, clusters_b = {c.cluster for c in a}, {c.cluster for c in b}
    assert not clusters_a & clusters_b
    assert min(len(clusters_a), len(clusters_b)) >= 12


def test_a_split_is_the_same_for_a_seed_and_another_for_another():
    carriers = load_set("python-sql")
    assert split_ab(carriers, 200, 1) == split_ab(tuple(reversed(carriers)), 200, 1)
    assert split_ab(carriers, 200, 1) != split_ab(carriers, 200, 2)


def test_prompts_without_a_cluster_are_their_own():
    carriers = [Carrier(prompt=f"prompt {index}") for index in range(80)]
    a, b = split_ab(carriers, 100, 0)
    assert len(a) == len(b) == 40
    assert len({cluster_of(c) for c in carriers}) == 80


def test_copies_of_a_prompt_never_stand_in_both_halves():
    carriers = [Carrier(prompt=f"prompt {index % 70}") for index in range(140)]
    a, b = split_ab(carriers, 140, 0)
    assert not {c.prompt for c in a} & {c.prompt for c in b}
    assert len({c.prompt for c in a}) == len(a) == 35


def test_a_named_cluster_is_not_an_own_cluster_of_the_same_text():
    plain = Carrier(prompt="x")
    assert cluster_of(Carrier(prompt="y", cluster=digest([plain]))) != cluster_of(plain)


@pytest.mark.parametrize(
    ("carriers", "count"),
    [
        ([Carrier(prompt=f"p{index}", cluster=f"c{index % 15}") for index in range(300)], 200),
        ([Carrier(prompt=f"p{index}", cluster=f"c{index % 20}") for index in range(60)], 60),
        ([Carrier(prompt=f"p{index}") for index in range(300)], 60),
        ([Carrier(prompt=f"p{index}", cluster="all") for index in range(900)], 200),
    ],
    ids=["too few clusters", "too few carriers", "too few asked for", "one cluster"],
)
def test_what_cannot_be_split_is_refused(carriers, count):
    with pytest.raises(InvalidAudit, match="cannot be split") as caught:
        split_ab(carriers, count, 0)
    assert "32 carriers and 8 clusters" in caught.value.hint


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 12), min_size=16, max_size=40), seed=st.integers(0, 2**31 - 1))
def test_every_split_is_fair(sizes, seed):
    carriers = [Carrier(prompt=f"{c}-{i}", cluster=f"c{c}") for c, size in enumerate(sizes) for i in range(size)]
    try:
        a, b = split_ab(carriers, 10_000, seed)
    except InvalidAudit:
        assert sum(sizes) < 2 * 32 + max(sizes)
        return
    assert sorted(c.prompt for c in (*a, *b)) == sorted(c.prompt for c in carriers)
    assert not {c.cluster for c in a} & {c.cluster for c in b}
    assert abs(len({c.cluster for c in a}) - len({c.cluster for c in b})) <= 1
    assert abs(len(a) - len(b)) <= max(sizes)


def test_a_subsample_takes_from_all_clusters_in_turn_and_its_start_is_a_smaller_one():
    carriers = load_set("python-sql")
    taken = subsample(carriers, 60, 5)
    counts = [sum(c.cluster == name for c in taken) for name in {c.cluster for c in carriers}]
    assert set(counts) == {2, 3}
    assert subsample(carriers, 24, 5) == taken[:24]
    assert len({c.cluster for c in taken[:24]}) == 24
    assert len(subsample(carriers[:7], 60, 5)) == 7


def test_the_digest_knows_prompts_clusters_and_order():
    first, second = Carrier(prompt="one", cluster="x"), Carrier(prompt="two", cluster="x")
    digests = {digest(c) for c in ([first], [second], [first, second], [second, first], [Carrier(prompt="one")], [])}
    assert len(digests) == 6
    assert digest([first]) == digest([Carrier(prompt="one", cluster="x")])
    assert digest([first]).startswith("sha256:")


def test_the_shipped_sets_are_pinned_by_their_digests():
    # A calibration is only comparable on the same carriers: changing a set is a decision, not an accident.
    assert {name: digest(load_set(name))[7:19] for name in SETS} == PINNED


PINNED = {"python-sql": "0025a54559f9", "instructions": "e418ab03bba5"}
