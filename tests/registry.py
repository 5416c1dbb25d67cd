"""A real MLflow server on this machine, with a registry to put models in. It takes some seconds to start."""

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.processes import mortal

_START_S = 120.0
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",
}
"""What MLflow's library would otherwise say and show, to us and to others."""


class RegistryServer:
    """``mlflow server`` on SQLite, serving its artifacts from a folder of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "mlflow.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            # It sends its webhooks to public https addresses alone unless it is told otherwise.
            "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
            "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
            "MLFLOW_WEBHOOK_CACHE_TTL": "0",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        stores = [
            "--backend-store-uri",
            f"sqlite:///{folder}/mlflow.db",
            "--artifacts-destination",
            str(folder / "files"),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                mortal([*command, *stores, "--workers", "1"]), env=environment, cwd=folder, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        give_up_at = time.monotonic() + _START_S
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < give_up_at, self.log.read_text()
            time.sleep(0.1)

    def client(self) -> Any:
        """MLflow's own client, as a team's training job has it."""
        os.environ |= QUIET
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.url, registry_uri=self.url)

    def register(self, name: str, folder: Path, *, place: str = "model", tags: dict[str, str] | None = None) -> str:
        """Log a folder as artifacts of a run and register it, as a team does; returns the reference."""
        from mlflow.exceptions import MlflowException

        client = self.client()
        with suppress(MlflowException):
            client.create_registered_model(name)
        run = client.create_run("0")
        client.log_artifacts(run.info.run_id, str(folder), place)
        version = client.create_model_version(
            name, source=f"{run.info.artifact_uri}/{place}", run_id=run.info.run_id, tags=tags or {}
        )
        return f"mlflow:{name}/{version.version}"

    def tags(self, reference: str) -> dict[str, str]:
        """The tags of a version."""
        name, _, version = reference.removeprefix("mlflow:").partition("/")
        return dict(self.client().get_model_version(name, version).tags)

    def stop(self) -> None:
        """End it and what it started."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()

    def _answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health", timeout=2).status_code == 200
        return False
