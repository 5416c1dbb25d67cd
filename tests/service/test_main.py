"""``python -m service`` as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import service.__main__ as entry
from jobs.ledger import Ledger
from service.errors import StartupError
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def environment(tmp_path, broker_url):
    (tmp_path / "models").mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BACKDOOR_AUDIT_")}
    return inherited | {
        "BACKDOOR_AUDIT_DATA_DIR": str(tmp_path / "data"),
        "BACKDOOR_AUDIT_MODELS_ROOT": str(tmp_path / "models"),
        "BACKDOOR_AUDIT_BROKER_URL": broker_url,
    }


@contextmanager
def process(environment, **options):
    child = subprocess.Popen(
        [sys.executable, "-m", "service"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, **options
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def wait_until_alive(url, child):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert child.poll() is None, child.stderr.read()
        try:
            return httpx.get(f"{url}/livez").raise_for_status()
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the service did not start")


def fastest_poll_s(url):
    """Seconds of the fastest of some polls over one connection: the packets' delays remain, the machine's do not."""
    with httpx.Client() as http:
        times = []
        for _ in range(20):
            started_at = time.perf_counter()
            http.get(url).raise_for_status()
            times.append(time.perf_counter() - started_at)
    return sorted(times)[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_migrates_serves_on_an_opened_socket_and_ends_when_told(environment, spec, number):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = environment | {"BACKDOOR_AUDIT_LISTEN_FD": str(listener.fileno())}
        with process(settings, pass_fds=[listener.fileno()]) as child:
            wait_until_alive(url, child)
            assert httpx.get(f"{url}/readyz").status_code == 200
            filed = httpx.post(f"{url}/audits", json=spec)
            assert filed.status_code == 202
            assert fastest_poll_s(f"{url}/audits/{filed.json()['id']}") < 0.03
            child.send_signal(number)
            _, logged = child.communicate(timeout=20)
    assert child.returncode == 0
    assert "Traceback" not in logged
    assert spec["trigger"]["triggered"] not in logged
    assert filed.json()["id"] in logged


def test_an_accepted_audit_survives_a_kill(environment, spec):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = environment | {"BACKDOOR_AUDIT_LISTEN_FD": str(listener.fileno())}
        with process(settings, pass_fds=[listener.fileno()]) as child:
            wait_until_alive(url, child)
            audit_id = httpx.post(f"{url}/audits", json=spec).json()["id"]
        with process(settings, pass_fds=[listener.fileno()]) as child:
            wait_until_alive(url, child)
            assert httpx.get(f"{url}/audits/{audit_id}").json()["status"] == "queued"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"BACKDOOR_AUDIT_HOST": "0.0.0.0", "BACKDOOR_AUDIT_PORT": "0"}, "python -m service.keys create"),
        ({"BACKDOOR_AUDIT_REQUIRE_KEYS": "true", "BACKDOOR_AUDIT_PORT": "0"}, "python -m service.keys create"),
        ({"BACKDOOR_AUDIT_PORT": "70000"}, "BACKDOOR_AUDIT_PORT"),
        ({"BACKDOOR_AUDIT_DATA_DIR": ""}, "BACKDOOR_AUDIT_DATA_DIR"),
        ({"BACKDOOR_AUDIT_LISTEN_FD": "99"}, "file descriptor 99"),
    ],
)
def test_it_says_why_it_does_not_start(environment, changes, said):
    with process(environment | changes) as child:
        _, logged = child.communicate(timeout=60)
        assert child.returncode == 2
    assert said in logged
    assert "Traceback" not in logged


def test_it_gives_up_on_a_database_that_does_not_come(environment):
    changes = {
        "BACKDOOR_AUDIT_DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/nothing",
        "BACKDOOR_AUDIT_STARTUP_WAIT_S": "0",
        "BACKDOOR_AUDIT_PORT": "0",
    }
    with process(environment | changes) as child:
        _, logged = child.communicate(timeout=60)
        assert child.returncode == 3
    assert "secret" not in logged


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("127.8.8.8", True), ("0.0.0.0", False), ("::", False)],
)
def test_which_addresses_other_machines_reach(tmp_path, host, local):
    listener = entry.listen(Settings(data_dir=tmp_path, models_root=tmp_path, host=host, port=0))
    with listener:
        assert entry._is_local(listener) is local


def test_with_a_key_it_serves_other_machines_and_lets_nobody_else_in(environment, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/data/ledger.sqlite3")
    ledger.migrate()
    _, token = ledger.keys.create(owner="ann", name="one", scopes=["audits:read"])
    ledger.close()
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = environment | {"BACKDOOR_AUDIT_LISTEN_FD": str(listener.fileno())}
        with process(settings, pass_fds=[listener.fileno()]) as child:
            wait_until_alive(url, child)
            assert httpx.get(f"{url}/audits").status_code == 401
            key = {"Authorization": f"Bearer {token}"}
            assert httpx.get(f"{url}/audits", headers=key | {"Host": "audits.example"}).status_code == 200
            child.terminate()
            _, logged = child.communicate(timeout=20)
    assert token.rsplit("_", 1)[1] not in logged


def test_a_port_in_use_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(data_dir=tmp_path, models_root=tmp_path, port=taken.getsockname()[1])
        with pytest.raises(StartupError, match="cannot bind"):
            entry.listen(settings)


@pytest.mark.parametrize("address", ["ftp://host/secret-word", "s3://key:secret-word@bucket/x"])
def test_an_address_of_artifacts_that_cannot_be_used_is_said_and_not_repeated(tmp_path, address):
    settings = Settings(data_dir=tmp_path, models_root=tmp_path, artifacts_url=address)
    with pytest.raises(StartupError, match="ARTIFACTS_URL") as caught:
        entry.check(settings)
    assert "s3://bucket/prefix" in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_settings_derive_their_defaults_from_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKDOOR_AUDIT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BACKDOOR_AUDIT_MODELS_ROOT", "models")
    monkeypatch.setenv("BACKDOOR_AUDIT_ALLOWED_ORGANISATIONS", "one, two")
    settings = Settings.load()
    assert settings.database_url == f"sqlite:///{tmp_path}/ledger.sqlite3"
    assert settings.artifacts_url == f"{tmp_path}/audits"
    assert settings.broker_url.startswith(f"redis+socket://{tmp_path}/")
    assert settings.models_root.is_absolute()
    assert settings.allowed_organisations == {"one", "two"}


def test_what_it_writes_is_its_users_alone(environment, tmp_path, spec):
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = environment | {"BACKDOOR_AUDIT_LISTEN_FD": str(listener.fileno())}
        with process(settings, pass_fds=[listener.fileno()], umask=0o022) as child:
            wait_until_alive(url, child)
            httpx.put(f"{url}/models/m/files/config.json", content=b"{}").raise_for_status()
    written = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert len(written) > 5
    assert [path for path in written if path.stat().st_mode & 0o077 and not path.is_socket()] == []
