"""What the operator sets for MLflow, and what is refused at the start."""

import json

import pytest

from models_store.sources.mlflow_registry import MlflowRegistry
from service import __main__ as entry
from service.errors import StartupError
from service.settings import Settings

URL = "http://127.0.0.1:9"
SECRET = "a secret that is not told"


def load(tmp_path, **values):
    return Settings.load(data_dir=tmp_path / "data", models_root=tmp_path, broker_url="redis://127.0.0.1:9", **values)


def test_nothing_is_set_up_by_itself(tmp_path):
    settings = load(tmp_path)
    assert MlflowRegistry.from_settings(settings) is None
    assert not settings.mlflow_tags
    assert settings.mlflow_event_secret is None


def test_the_list_of_models_is_read_from_text(tmp_path):
    settings = load(tmp_path, mlflow_tracking_uri=f"{URL}/", mlflow_models="sql-*, chat ,")
    registry = MlflowRegistry.from_settings(settings)
    assert registry.tracking_uri == URL
    assert [registry.allows(name) for name in ("sql-writer", "chat", "chat-2", "other")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mlflow_tags": True}, "need MLFLOW_TRACKING_URI"),
        ({"mlflow_event_secret": SECRET, "mlflow_audits": "plans.json"}, "need MLFLOW_TRACKING_URI"),
        ({"mlflow_event_secret": SECRET, "mlflow_tracking_uri": URL}, "needs MLFLOW_AUDITS"),
        ({"mlflow_event_secret": "short", "mlflow_tracking_uri": URL}, "BACKDOOR_AUDIT_MLFLOW_EVENT_SECRET: "),
        ({"mlflow_tracking_uri": "sqlite:///x"}, "BACKDOOR_AUDIT_MLFLOW_TRACKING_URI: "),
        ({"mlflow_tracking_uri": "http://user:word@host"}, "BACKDOOR_AUDIT_MLFLOW_TRACKING_URI: "),
        ({"public_url": "audits.example"}, "BACKDOOR_AUDIT_PUBLIC_URL: "),
    ],
)
def test_settings_that_do_not_fit_are_named_and_not_repeated(tmp_path, values, said):
    with pytest.raises(StartupError, match=said) as caught:
        load(tmp_path, **values)
    assert SECRET not in str(caught.value)
    assert "word" not in str(caught.value)


def test_a_plan_that_makes_no_spec_keeps_the_service_from_starting(tmp_path):
    (tmp_path / "plans.json").write_text(json.dumps({"*": {"preset": "enormous"}}))
    settings = load(
        tmp_path, mlflow_tracking_uri=URL, mlflow_event_secret=SECRET, mlflow_audits=tmp_path / "plans.json"
    )
    with pytest.raises(StartupError, match="preset"):
        entry.check(settings)
