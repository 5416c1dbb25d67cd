"""Processes that leave their group, session, parent and death signal behind are found and ended all the same."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.processes import is_gone
from worker.sandbox.left_over import end_left_over, end_orphans, write_down

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel gives orphans on Linux")

SANDBOX = """
import ctypes, os, sys, time
prctl = ctypes.CDLL(None).prctl
prctl(1, 9, 0, 0, 0)   # dies with its worker, as a sandbox does
print(os.getpid(), flush=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        prctl(1, 0, 0, 0, 0)
        os.setsid()
        print(os.getpid(), flush=True)
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(600 if sys.argv[1] == "stays" else 0)
"""
"""What code that has taken a sandbox over would do where no filter of system calls forbids it."""
WORKER = """
import os, subprocess, sys, time
from pathlib import Path
from worker.sandbox.left_over import write_down
from common import logs
from worker.sandbox.orphans import Orphans
logs.configure()  # to standard error
orphans = Orphans.adopt()
with subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdout=subprocess.PIPE, text=True) as sandbox:
    write_down(Path(sys.argv[3]), "audit_1", sandbox.pid)
    print(sandbox.stdout.readline().strip(), sandbox.stdout.readline().strip(), flush=True)
    if sys.argv[2] == "goes":
        sandbox.wait()
        own = subprocess.Popen(["sleep", "600"])
        print(orphans.end([own.pid], timeout_s=20), own.poll(), flush=True)
        own.kill()
    time.sleep(600)
"""


@contextmanager
def worker(sandbox: str, records: Path) -> Iterator[tuple["subprocess.Popen[str]", int, int]]:
    """A worker, its sandbox, and the process that this has hidden."""
    command = [sys.executable, "-c", WORKER, SANDBOX, sandbox, str(records)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        first, hidden = map(int, started.stdout.readline().split())
        try:
            yield started, first, hidden
        finally:
            started.kill()
            for pid in (first, hidden):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def gone(pid: int) -> bool:
    give_up_at = time.monotonic() + 20
    while not is_gone(pid) and time.monotonic() < give_up_at:
        time.sleep(0.02)
    return is_gone(pid)


def test_a_worker_ends_what_its_sandbox_has_left(tmp_path: Path) -> None:
    with worker("goes", tmp_path) as (process, _, hidden):
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["True", "None"], "and leaves its own children alone"
        assert gone(hidden)


@pytest.mark.parametrize("sandbox", ["stays", "goes"])
def test_the_next_claimer_ends_what_belongs_to_a_worker_that_stands_still(tmp_path: Path, sandbox: str) -> None:
    with worker("stays", tmp_path) as (process, first, hidden):
        process.send_signal(signal.SIGSTOP)
        if sandbox == "goes":
            os.kill(first, signal.SIGKILL)
        assert end_left_over(tmp_path, "audit_1", timeout_s=20)
        assert gone(hidden)
        assert is_gone(first)
        assert not is_gone(process.pid)
        assert list(tmp_path.iterdir()) == []


def test_a_sandbox_that_is_written_down_is_left_to_its_living_worker(tmp_path: Path) -> None:
    with worker("stays", tmp_path) as (_, first, hidden):
        assert end_orphans(tmp_path, timeout_s=0)
        assert not is_gone(first)
        assert not is_gone(hidden)


SERVE = """
import subprocess, sys
from local.child import Launch
from local.supervisor import RestartPolicy, Supervisor
from pathlib import Path
from common import logs
from worker.sandbox.orphans import Orphans
logs.configure()
supervisor = Supervisor(lambda *said: print(*said, flush=True), RestartPolicy(first_s=0.1), Orphans.adopt())
with supervisor.signals():
    folder = Path(sys.argv[4])
    argv = [sys.executable, "-c", *sys.argv[1:4], str(folder / "records")]
    supervisor.start(Launch("worker", argv, dict(__import__("os").environ), folder / "log", 5.0))
    supervisor.watch()
"""


def test_serve_ends_what_a_worker_that_was_killed_has_left(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVE, WORKER, SANDBOX, "stays", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serve:
        assert serve.stdout is not None
        log = tmp_path / "log"
        give_up_at = time.monotonic() + 60
        while len(log.read_text().split() if log.exists() else []) < 2 and time.monotonic() < give_up_at:
            time.sleep(0.05)
        first, hidden = map(int, log.read_text().split()[:2])
        parent = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        assert gone(hidden)
        serve.terminate()
        serve.wait(30)


def test_nothing_is_written_down_of_a_process_that_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
        assert write_down(tmp_path, "audit_1", ended.pid) is None
