"""What a worker understands of its environment."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from worker.errors import SettingsError
from worker.settings import WorkerSettings


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("BACKDOOR_AUDIT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BACKDOOR_AUDIT_MODELS_ROOT", str(tmp_path / "models"))
    return monkeypatch


def test_two_folders_are_enough(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = WorkerSettings.load()
    assert settings.database_url == f"sqlite:///{tmp_path}/ledger.sqlite3"
    assert settings.broker_url == f"redis+socket://{tmp_path}/broker/valkey.sock"
    assert settings.artifacts_url == f"{tmp_path}/audits"
    assert settings.cache_dir == tmp_path / "cache" / "base"
    assert settings.cache_bytes == 20 * 1024**3
    assert settings.offline
    assert settings.device == "auto"


def test_the_environment_wins(environment: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATABASE_URL": "postgresql://db/audits",
        "BROKER_URL": "redis://queue:6379/0",
        "ALLOWED_ORGANISATIONS": "one, two,",
        "OFFLINE": "false",
        "DEVICE": "cuda:1",
        "CACHE_GB": "0.5",
    }.items():
        environment.setenv(f"BACKDOOR_AUDIT_{name}", value)
    settings = WorkerSettings.load()
    assert settings.database_url == "postgresql://db/audits"
    assert settings.broker_url == "redis://queue:6379/0"
    assert settings.allowed_organisations == {"one", "two"}
    assert not settings.offline
    assert settings.device == "cuda:1"
    assert settings.cache_bytes == 2**29


def test_an_empty_variable_is_an_absent_one(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("BACKDOOR_AUDIT_DATABASE_URL", "")
    assert WorkerSettings.load().database_url.startswith("sqlite")


def test_relative_folders_become_absolute(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BACKDOOR_AUDIT_MODELS_ROOT", "models")
    assert WorkerSettings.load().models_root == Path.cwd() / "models"


@pytest.mark.parametrize(
    ("name", "value"),
    [("DEVICE", "gpu"), ("CACHE_GB", "0"), ("LEASE_S", "-1"), ("HEARTBEAT_S", "40"), ("MAX_ATTEMPTS", "0")],
)
def test_what_makes_no_sense_is_refused_by_name(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(f"BACKDOOR_AUDIT_{name}", value)
    with pytest.raises(SettingsError, match=f"(?i){name}"):
        WorkerSettings.load()


def test_a_missing_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BACKDOOR_AUDIT_DATA_DIR", raising=False)
    monkeypatch.setenv("BACKDOOR_AUDIT_MODELS_ROOT", "/models")
    with pytest.raises(SettingsError) as refusal:
        WorkerSettings.load()
    assert str(refusal.value) == "invalid settings: BACKDOOR_AUDIT_DATA_DIR: is required"


def test_the_refusal_does_not_repeat_a_password(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BACKDOOR_AUDIT_DEVICE", "hunter2")
    with pytest.raises(SettingsError) as refusal:
        WorkerSettings.load()
    assert "hunter2" not in str(refusal.value)


def test_settings_are_frozen(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError):
        WorkerSettings.load().lease_s = 1  # type: ignore[misc]
