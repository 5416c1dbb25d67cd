"""What a second attempt takes over from the first: each is the same as measured, and is not measured again."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from audit.measure.contrast import fit_directions
from audit.measure.fitted_directions import obtain_directions
from audit.measure.resume import obtain_confirmation, obtain_plan
from backdoor_audit.contract.report.audit_report import METHOD_VERSION
from tests.audit.recording import Counting

PLAN = {"bytes": 5, "device": "cpu", "dtype": "float32"}
NOTED = PLAN | {"method": METHOD_VERSION}


@pytest.fixture
def store(tmp_path):
    return Counting(tmp_path / "w")


def measured(store):
    with store.create("extract") as folder:
        (folder / "x").write_text("measured")


def test_a_plan_is_kept_with_what_was_measured_on_the_same_kind_of_device(store):
    folder = obtain_plan(store, PLAN)
    assert json.loads((folder / "plan.json").read_text()) == NOTED
    measured(store)
    assert obtain_plan(store, PLAN | {"bytes": 9}) == folder
    assert json.loads((folder / "plan.json").read_text()) == NOTED
    assert list(store.names()) == ["extract", "plan"]


@pytest.mark.parametrize("change", [{"device": "cuda"}, {"dtype": "bfloat16"}])
def test_on_another_kind_of_device_everything_is_measured_anew(store, change):
    obtain_plan(store, PLAN)
    measured(store)
    folder = obtain_plan(store, PLAN | change)
    assert list(store.names()) == ["plan"]
    assert json.loads((folder / "plan.json").read_text()) == NOTED | change


@pytest.mark.parametrize("noted", [{"bytes": 5}, PLAN, PLAN | {"method": "2"}])
def test_what_another_version_of_the_method_measured_is_measured_anew(store, noted):
    with store.create("plan") as folder:
        (folder / "plan.json").write_text(json.dumps(noted))
    measured(store)
    obtain_plan(store, PLAN)
    assert list(store.names()) == ["plan"]


def test_directions_are_fitted_once_and_read_back_as_they_were(toy_extraction, store):
    own = toy_extraction
    first = obtain_directions(own.setup, store, own.contrast("a"))
    assert store.written == ["directions"]
    # Without a runner there is nothing to fit with.
    again = obtain_directions(SimpleNamespace(layers=own.setup.layers), store, None)
    naive = fit_directions(own.setup.runner, own.contrast("a"), own.setup.layers)
    for other in (again, naive):
        assert (other.layer, other.effect_a) == (first.layer, first.effect_a)
        for layer in own.setup.layers:
            assert torch.equal(other.basis[layer], first.basis[layer])
            assert torch.equal(other.gradient[layer], first.gradient[layer])


def test_the_confirmation_is_measured_once_and_read_back_as_it_was(toy_extraction, store):
    own = replace(toy_extraction, store=store)
    first = obtain_confirmation(own, lambda behaviour: True, lambda fraction, message: None)

    def refuse(*_):
        raise AssertionError("it was measured before")

    again = obtain_confirmation(replace(own, setup=None), refuse, refuse)
    assert again == first
    assert first.layer == own.directions.layer
    assert first.causal is not None
