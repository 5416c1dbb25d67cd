"""The whole embedded stack, started as a person starts it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from backdoor_audit.cli.main import run
from local import broker
from local.errors import DataDirInUse
from local.serve import _data_dir_lock

ROOT = Path(__file__).resolve().parents[2]
SUBMIT = ("submit", "--base", "local:none", "--tuned", "local:nothing", "--triggered", "a", "--clean", "b")


POWERLESS = """
import os, sys
from worker.sandbox import confinement
confinement._ROOT_KEEPS = 0
assert confinement._drop_capabilities()
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a command as a user that is not root, as far as the kernel's protection of processes goes."""
READER = """
import os, sys
from pathlib import Path
for pid in sys.argv[1:]:
    try:
        print(len(Path(f"/proc/{pid}/environ").read_bytes()) > 0)
    except PermissionError:
        print("hidden")
"""


class Serve:
    """One ``backdoor-audit serve`` in a process of its own."""

    def __init__(self, data_dir, cwd, *options, **more):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BACKDOOR_AUDIT_")}
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more
        command = [sys.executable, "-P", "-m", "backdoor_audit.cli", "serve", "--data-dir", str(data_dir), *options]
        if more.pop("plain_user", None):
            command = [sys.executable, "-c", POWERLESS, *command]
        self.data_dir = data_dir
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def read_until(self, word):
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if word in line:
                return line
        pytest.fail(f"{word!r} never came: {''.join(lines)}")

    def url(self):
        return re.search(r"http://\S+", self.read_until("Ready at")).group()

    def children(self):
        """Every process below it, by what its command line holds."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return {
            name: process
            for process in found
            for name, mark in (("api", "service"), ("worker", "worker"), ("broker", "valkey-server"))
            if any(mark in part for part in process.cmdline())
        }

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            out, _ = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return out


@pytest.fixture
def serve(tmp_path):
    started = []

    def start(*options, data_dir=None, cwd=tmp_path, **more):
        started.append(Serve(data_dir or tmp_path / "data", cwd, "--port", "0", *options, **more))
        return started[-1]

    yield start
    for stack in started:
        if stack.process.poll() is None:
            stack.stop()
        stack.process.stdout.close()
        with broker.socket_path(stack.data_dir / "broker"):  # removes what a killed one left
            pass


def _all_gone(processes, within_s=10.0):
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    return not alive


def test_one_command_takes_an_audit_to_its_end_and_leaves_nothing_behind(serve, tmp_path, capfd):
    # A path too long for a socket, with a space, run where modules of the same names lie about.
    data_dir = tmp_path / "with space" / ("x" * 100)
    for name in ("service", "worker"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    stack = serve(data_dir=data_dir)
    url = stack.url()
    children = stack.children()
    assert set(children) == {"api", "worker", "broker"}
    code = run(["--url", url, *SUBMIT, "--wait", "--timeout", "60"])
    captured = capfd.readouterr()
    assert code == 2
    assert "model_not_found" in captured.err
    assert {path.name for path in (data_dir / "logs").iterdir()} >= {"api.log", "worker.log", "broker.log"}
    out = stack.stop()
    assert stack.process.returncode == 0
    assert "Stopped." in out
    assert "killed" not in out
    assert _all_gone(children.values())


def test_what_dies_is_started_again_and_nothing_outlives_serve_itself(serve):
    stack = serve()
    url = stack.url()
    for name in ("api", "broker", "worker"):
        stack.children()[name].kill()
        assert name in stack.read_until("starting again")
        stack.read_until(f"{name:<7} started again")
    end = time.monotonic() + 30
    while httpx.get(f"{url}/readyz", timeout=30, trust_env=False).status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.2)
    children = psutil.Process(stack.process.pid).children(recursive=True)
    assert len(children) >= 3
    stack.process.kill()
    assert _all_gone(children)


def test_no_process_has_secrets_that_it_does_not_need(serve):
    key = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="
    running = serve(BACKDOOR_AUDIT_WEBHOOK_KEYS=key, AWS_SECRET_ACCESS_KEY="of-the-object-store")
    running.url()
    held = {name: process.environ() for name, process in running.children().items()}
    assert {name for name, environment in held.items() if key in environment.values()} == {"api"}
    assert {name for name, each in held.items() if "of-the-object-store" in each.values()} == {"api", "worker"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nothing hides a process's memory")
def test_no_process_of_the_same_user_reads_the_environment_of_one_that_holds_secrets(serve):
    running = serve(plain_user="yes")
    running.url()
    children = running.children()
    pids = [running.process.pid, children["api"].pid, children["worker"].pid, children["broker"].pid]
    command = [sys.executable, "-c", POWERLESS, sys.executable, "-c", READER, *map(str, pids)]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()
    assert said == ["hidden", "hidden", "hidden", "True"], "the broker's holds nothing"


def test_a_data_folder_has_one_serve(serve, tmp_path):
    stack = serve()
    url = stack.url()
    second = serve()
    out, _ = second.process.communicate(timeout=30)
    assert second.process.returncode == 4
    assert f"process {stack.process.pid}" in out
    assert url in out


def test_the_lock_is_free_again_afterwards(tmp_path):
    with _data_dir_lock(tmp_path), pytest.raises(DataDirInUse), _data_dir_lock(tmp_path):
        pass
    with _data_dir_lock(tmp_path):
        pass


def test_a_port_that_is_taken_is_said_and_nothing_is_started(tmp_path, capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["serve", "--data-dir", str(tmp_path / "data"), "--port", str(port)]) == 4
    assert f"port {port}" in capfd.readouterr().err
    assert not (tmp_path / "data" / "logs").exists()


def test_an_address_that_others_reach_is_refused_with_the_services_reason(tmp_path, capfd):
    assert run(["serve", "--data-dir", str(tmp_path / "data"), "--port", "0", "--host", "0.0.0.0"]) == 3
    assert "python -m service.keys create" in capfd.readouterr().err


def test_a_folder_that_cannot_be_made_is_said(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    assert run(["serve", "--data-dir", str(tmp_path / "file" / "data"), "--port", "0"]) == 3
    assert "cannot be created" in capfd.readouterr().err


def test_another_broker_and_ledger_leave_the_bundled_ones_out(serve, tmp_path):
    first = serve()
    first.url()
    folder = tmp_path / "data" / "broker"
    link = folder / "socket-folder"
    socket_file = (link.readlink() if link.is_symlink() else folder) / "valkey.sock"
    ledger = tmp_path / "other.sqlite3"
    second = serve(
        "--broker-url", broker.url(socket_file), "--database-url", f"sqlite:///{ledger}", data_dir=tmp_path / "second"
    )
    second.url()
    assert set(second.children()) == {"api", "worker"}
    assert ledger.exists()
    assert not (tmp_path / "second" / "ledger.sqlite3").exists()
