"""What the API and the workers share of their settings."""

import pytest

from common.settings import CommonSettings, InvalidSettings
from service.settings import Settings
from worker.settings import WorkerSettings


@pytest.mark.parametrize("kind", [Settings, WorkerSettings])
def test_both_read_every_shared_setting_alike(kind):
    """A process that has a default of its own would look for the ledger, or for models, elsewhere."""
    for name, field in CommonSettings.model_fields.items():
        assert kind.model_fields[name].default == field.default
        assert kind.model_fields[name].default_factory is field.default_factory
        assert name not in kind.__annotations__


def test_addresses_follow_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("BACKDOOR_AUDIT_DATA_DIR", str(tmp_path))
    settings = CommonSettings.load(models_root="/models")
    assert settings.database_url == f"sqlite:///{tmp_path}/ledger.sqlite3"
    assert settings.broker_url == f"redis+socket://{tmp_path}/broker/valkey.sock"
    assert settings.artifacts_url == f"{tmp_path}/audits"
    assert settings.store_dir == tmp_path / "store"


def test_each_wrong_setting_is_named_and_no_value_is_repeated(tmp_path):
    with pytest.raises(InvalidSettings) as refusal:
        CommonSettings.load(data_dir=tmp_path, lease_s=-1, mlflow_tracking_uri="hunter2")
    message = str(refusal.value)
    assert message.startswith("invalid settings: ")
    for name in ("MODELS_ROOT", "LEASE_S", "MLFLOW_TRACKING_URI"):
        assert f"BACKDOOR_AUDIT_{name}: " in message
    assert "hunter2" not in message
    assert refusal.value.__cause__ is None
