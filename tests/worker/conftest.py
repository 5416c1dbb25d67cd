"""A ledger, a broker and real worker processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from backdoor_audit.contract.lifecycle import TERMINAL
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.ledger import Ledger
from jobs.records import AuditRecord
from models_store.store import ModelsStore
from storage.artifacts import ArtifactStore
from storage.objects import ObjectArtifacts
from tests.clocks import ManualClock
from tests.processes import mortal
from worker.attempts.context import WorkerContext
from worker.dispatch import Dispatcher
from worker.settings import WorkerSettings
from worker.shutdown import Shutdown

LEASE_S = 6.0


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the ledger; it moves when a test says so."""
    return ManualClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: ManualClock) -> Iterator[Ledger]:
    """An empty ledger on SQLite, with leases of a second of its clock."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}", lease_s=1.0, requeue_after_s=0.2, clock=clock)
    ledger.migrate()
    yield ledger
    ledger.close()


class Worker:
    """One ``python -m worker``."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                mortal([sys.executable, "-m", "worker"]),
                env=environment,
                stderr=output,
                stdout=output,
                start_new_session=True,
            )

    def logged(self) -> list[dict[str, Any]]:
        """The JSON lines of its log, the sandboxes' included."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def wait_ready(self, timeout_s: float = 120) -> None:
        wait_for(lambda: any(line["event"] == "worker.started" for line in self.logged()), timeout_s, self.log)

    def sandbox(self, timeout_s: float = 120) -> psutil.Process:
        """The sandbox that runs, once there is one."""
        parent = psutil.Process(self.process.pid)
        wait_for(lambda: bool(parent.children()), timeout_s, self.log)
        return parent.children()[0]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Stack:
    """What a worker needs, with short leases, and the means to look at what it did."""

    def __init__(self, data_dir: Path, models_root: Path, broker_url: str, database_url: str | None = None) -> None:
        self.data_dir = data_dir
        self.database_url = database_url or f"sqlite:///{data_dir / 'ledger.sqlite3'}"
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("BACKDOOR_AUDIT_")
        } | {
            "BACKDOOR_AUDIT_DATA_DIR": str(data_dir),
            "BACKDOOR_AUDIT_MODELS_ROOT": str(models_root),
            "BACKDOOR_AUDIT_BROKER_URL": broker_url,
            "BACKDOOR_AUDIT_DATABASE_URL": self.database_url,
            "BACKDOOR_AUDIT_DEVICE": "cpu",
            "BACKDOOR_AUDIT_LEASE_S": str(LEASE_S),
            "BACKDOOR_AUDIT_HEARTBEAT_S": "1",
            "BACKDOOR_AUDIT_REAP_S": "1",
            "BACKDOOR_AUDIT_REQUEUE_AFTER_S": "3",
            "OMP_NUM_THREADS": "1",
        }
        self.ledger = Ledger(self.database_url, lease_s=LEASE_S, requeue_after_s=3)
        self.ledger.migrate()
        self.dispatcher = Dispatcher(broker_url)
        self.workers: list[Worker] = []

    def start_worker(self, **settings: str) -> Worker:
        """Start a worker and wait until it consumes."""
        changed = {f"BACKDOOR_AUDIT_{name.upper()}": value for name, value in settings.items()}
        worker = Worker(self.environment | changed, self.data_dir / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        worker.wait_ready()
        return worker

    def submit(self, spec: AuditSpec) -> str:
        """File an audit and send it out."""
        audit_id = self.ledger.submit(spec, owner="tests").audit.id
        self.dispatcher.enqueue(audit_id)
        return audit_id

    def wait(self, audit_id: str, condition: Callable[[AuditRecord], bool], timeout_s: float = 240) -> AuditRecord:
        """Wait until the audit is as wanted."""
        give_up_at = time.monotonic() + timeout_s
        while True:
            record = self.ledger.get(audit_id)
            if condition(record):
                return record
            assert time.monotonic() < give_up_at, (record.status, record.stage, record.message, self.tails())
            time.sleep(0.1)

    def end_of(self, audit_id: str, timeout_s: float = 240) -> AuditRecord:
        """Wait until the audit has ended."""
        return self.wait(audit_id, lambda record: record.status in TERMINAL, timeout_s)

    def tails(self) -> list[str]:
        return [worker.log.read_text()[-3000:] for worker in self.workers]

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        self.dispatcher.close()
        self.ledger.close()


@pytest.fixture
def make_context(ledger: Ledger, toy_models: Path, tmp_path: Path) -> Callable[..., WorkerContext]:
    """A worker's context over the ledger and the toy models, with these settings."""

    def make(*, published: ObjectArtifacts | None = None, **changes: Any) -> WorkerContext:
        settings = WorkerSettings.load(data_dir=tmp_path, models_root=toy_models, device="cpu", **changes)
        return WorkerContext(
            settings=settings,
            ledger=ledger,
            models=ModelsStore(models_root=toy_models, store_dir=settings.store_dir),
            artifacts=ArtifactStore(settings.workspaces),
            shutdown=Shutdown(),
            published=published,
        )

    return make


def wait_for(condition: Callable[[], bool], timeout_s: float, log: Path | None = None) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, log.read_text()[-3000:] if log is not None else "too late"
        time.sleep(0.05)


@pytest.fixture
def stack(tmp_path: Path, toy_models: Path, broker_url: str) -> Iterator[Stack]:
    """A ledger on SQLite, a real broker, and no worker yet."""
    stack = Stack(tmp_path, toy_models, broker_url)
    yield stack
    stack.close()
