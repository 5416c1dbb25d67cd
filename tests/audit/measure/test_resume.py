"""What a second attempt takes over from the first: each is the same as measured, and is not measured again."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from audit.measure.contrast import fit_directions
from audit.measure.resume import obtain_confirmation, obtain_directions, obtain_plan
from tests.audit.recording import Counting

PLAN = {"bytes": 5, "device": "cpu", "dtype": "float32"}


@pytest.fixture
def store(tmp_path):
    return Counting(tmp_path / "w")


def measured(store):
    with store.create("extract") as folder:
        (folder / "x").write_text("measured")


def test_a_plan_is_kept_with_what_was_measured_on_the_same_kind_of_device(store):
    folder = obtain_plan(store, PLAN)
    assert json.loads((folder / "plan.json").read_text()) == PLAN
    measured(store)
    assert obtain_plan(store, PLAN | {"bytes": 9}) == folder
    assert json.loads((folder / "plan.json").read_text()) == PLAN
    assert list(store.names()) == ["extract", "plan"]


@pytest.mark.parametrize("change", [{"device": "cuda"}, {"dtype": "bfloat16"}])
def test_on_another_kind_of_device_everything_is_measured_anew(store, change):
    obtain_plan(store, PLAN)
    measured(store)
    folder = obtain_plan(store, PLAN | change)
    assert list(store.names()) == ["plan"]
    assert json.loads((folder / "plan.json").read_text()) == PLAN | change


def test_the_plan_of_an_older_version_says_nothing_of_the_device_and_is_kept(store):
    with store.create("plan") as folder:
        (folder / "plan.json").write_text('{"bytes": 5}')
    measured(store)
    obtain_plan(store, PLAN)
    assert list(store.names()) == ["extract", "plan"]


def test_directions_are_fitted_once_and_read_back_as_they_were(toy_extraction, store):
    own = replace(toy_extraction, store=store)
    first = obtain_directions(own)
    assert store.written == ["directions"]
    # Without a runner there is nothing to fit with.
    again = obtain_directions(replace(own, setup=SimpleNamespace(layers=own.setup.layers)))
    naive = fit_directions(own.setup.runner, own.contrast("a"), own.setup.layers)
    for other in (again, naive):
        assert (other.layer, other.effect_a) == (first.layer, first.effect_a)
        for layer in own.setup.layers:
            assert torch.equal(other.basis[layer], first.basis[layer])
            assert torch.equal(other.gradient[layer], first.gradient[layer])


def test_the_confirmation_is_measured_once_and_read_back_as_it_was(toy_extraction, store):
    own = replace(toy_extraction, store=store)
    directions = obtain_directions(own)
    first = obtain_confirmation(own, directions, lambda behaviour: True, lambda fraction, message: None)

    def refuse(*_):
        raise AssertionError("it was measured before")

    again = obtain_confirmation(replace(own, setup=None), directions, refuse, refuse)
    assert again == first
    assert first.layer == directions.layer
    assert first.causal is not None
