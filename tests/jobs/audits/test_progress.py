"""One number for the bar."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backdoor_audit.contract.lifecycle import STAGES
from jobs.audits.progress import clamp, overall, worth_an_event


@pytest.mark.parametrize("searches", [False, True])
def test_it_goes_from_nothing_to_all(searches):
    assert overall("resolve", 0, searches=searches) == 0
    assert overall("report", 1, searches=searches) == pytest.approx(1)
    for earlier, later in itertools.pairwise(STAGES):
        ended, begun = overall(earlier, 1, searches=searches), overall(later, 0, searches=searches)
        assert ended == pytest.approx(begun)
    assert (overall("search", 1, searches=searches) > overall("search", 0, searches=searches)) == searches


@given(st.sampled_from(STAGES), st.floats(), st.floats())
def test_it_stays_in_bounds_and_rises(stage, one, other):
    low, high = sorted((clamp(one), clamp(other)))
    assert 0 <= overall(stage, low) <= overall(stage, high) <= 1
    assert math.isfinite(clamp(one))


def test_a_step_is_worth_an_event():
    assert worth_an_event("train", 0.0, last_stage="extract", last_fraction=0.0)
    assert not worth_an_event("train", 0.54, last_stage="train", last_fraction=0.5)
    assert worth_an_event("train", 0.56, last_stage="train", last_fraction=0.5)
    assert worth_an_event("train", 0.1, last_stage="train", last_fraction=0.5)
