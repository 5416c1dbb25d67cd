"""Rows of the fault matrix in which the database goes away or the disk fills up."""

import os
import resource
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.faults.stack import WHOLE, Broker, System, until
from tests.toy import toy_spec
from tests.worker.conftest import Stack

pytestmark = pytest.mark.timeout(900)

LOCKED_S = 30
DOWN_S = 10
"""Longer than the lease of the row's workers."""


def test_row_11_database_away_mid_audit(system: System, broker: Broker, toy_models: Path, tmp_path: Path) -> None:
    # The workers of SQLite have a broker queue of their own, and the lease that the settings have by default.
    small = Stack(tmp_path, toy_models, broker.url + "?virtual_host=1")
    small.environment |= {"BACKDOOR_AUDIT_LEASE_S": "60", "BACKDOOR_AUDIT_HEARTBEAT_S": "15"}
    try:
        workers = system.start_worker(heartbeat_s="2"), small.start_worker()
        on_postgres = system.post(WHOLE)
        on_sqlite = small.submit(WHOLE)
        for stack, audit_id in ((system, on_postgres), (small, on_sqlite)):
            stack.wait(audit_id, lambda record: record.stage not in (None, "resolve", "preflight"))
        with _locked(tmp_path / "ledger.sqlite3"):
            locked_at = time.monotonic()
            system.postgres.crash()
            time.sleep(DOWN_S)
            system.postgres.start()
            time.sleep(max(0.0, LOCKED_S - (time.monotonic() - locked_at)))
        system.succeeded(on_postgres)
        assert system.ledger.get(on_postgres).attempt == 1, "the worker waited and went on"
        record = small.end_of(on_sqlite)
        assert (record.status, record.attempt) == ("succeeded", 1), record.failure
        assert sum(event.status == "succeeded" for event in small.ledger.events(on_sqlite)) == 1
        assert all(worker.process.poll() is None for worker in workers)
    finally:
        small.close()


@contextmanager
def _locked(file: Path) -> "Iterator[None]":
    """Nobody else can write to an SQLite database."""
    blocker = sqlite3.connect(file, isolation_level=None, timeout=30)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()


class SmallDisk:
    """A disk for artifacts that can be filled up: a small file system, or, where that can't be mounted, a limit."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
        self.mounted = (
            os.geteuid() == 0
            and shutil.which("mount") is not None
            and subprocess.run(mount, check=False, capture_output=True).returncode == 0
        )

    def fill(self, sandbox: psutil.Process) -> None:
        """Leave not a byte."""
        if not self.mounted:
            sandbox.rlimit(resource.RLIMIT_FSIZE, (0, 0))
            return
        with (self.place / "ballast").open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def free(self) -> None:
        (self.place / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.place)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> "Iterator[SmallDisk]":
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.close()


def test_row_12_no_space_while_an_artifact_is_written(system: System, small_disk: SmallDisk) -> None:
    artifacts = small_disk.place / "audits"
    worker = system.start_worker(artifacts_url=str(artifacts))
    audit_id = system.post(WHOLE)
    sandbox = worker.sandbox()
    give_up_at = time.monotonic() + 240
    while not (artifacts / audit_id / "continuations").exists():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)
    small_disk.fill(sandbox)
    record = system.end_of(audit_id)
    assert record.failure is not None, record.status
    assert record.failure.code == "no_space"
    assert "space" in record.failure.message
    assert record.failure.hint
    system.one_end(audit_id)
    until(lambda: not (artifacts / audit_id).exists(), 20, "something is left of it, whole or partial")
    assert not [path.name for path in artifacts.iterdir() if path.name.startswith(".tmp-")]
    small_disk.free()
    again = system.post(toy_spec())
    system.succeeded(again)
    assert (artifacts / again / "report" / "report.json").is_file()
    assert worker.process.poll() is None
