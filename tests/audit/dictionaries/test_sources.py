import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.dictionaries import BalancedOrder, TensorSource


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 5), st.integers(0, 2**31))
def test_every_group_has_the_same_share(groups, rounds, seed):
    labels = torch.tensor(groups)
    present = len(set(groups))
    order = BalancedOrder(labels, torch.Generator().manual_seed(seed), block=8 * present)
    taken = order.take(rounds * 8 * present)
    counts = torch.bincount(labels[taken], minlength=4)
    assert sorted(counts.tolist()) == [0] * (4 - present) + [rounds * 8] * present


def test_a_group_is_shown_whole_before_any_of_it_comes_again():
    labels = torch.tensor([0] * 5 + [1] * 50)
    taken = BalancedOrder(labels, torch.Generator().manual_seed(0), block=10).take(100)
    small, large = taken[taken < 5], taken[taken >= 5]
    assert torch.bincount(small).tolist() == [10] * 5
    assert sorted(large.tolist()) == list(range(5, 55))


def test_the_order_depends_on_the_seed_and_not_on_how_it_is_taken():
    labels = torch.arange(30) % 3

    def order(seed):
        return BalancedOrder(labels, torch.Generator().manual_seed(seed))

    pieces = order(1)
    joined = torch.cat([pieces.take(7), pieces.take(20), pieces.take(3)])
    assert torch.equal(joined, order(1).take(30))
    assert not torch.equal(joined, order(2).take(30))


def test_a_source_whose_parts_do_not_fit_is_refused():
    base, groups = torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)
    for wrong in (
        {"tuned": torch.zeros(4, 2)},
        {"groups": torch.zeros(3, dtype=torch.long)},
        {"base": torch.zeros(0, 3), "tuned": torch.zeros(0, 3)},
    ):
        with pytest.raises(ValueError, match=r"shape|at least one token"):
            TensorSource(**({"base": base, "tuned": base, "groups": groups} | wrong))
