"""Starting, listening to and ending real sandboxes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from models_store.store import ModelsStore
from tests.processes import is_gone
from tests.toy import toy_spec
from tests.worker.conftest import wait_for
from worker.errors import ProtocolError
from worker.sandbox.process import SandboxProcess, sandbox_environment
from worker.sandbox.protocol import Failed, Finished, FromSandbox, Limits, ModelFolder, Progress, Request, Stopped

RequestMaker = Callable[..., Request]


@pytest.fixture
def make_request(toy_models: Path, tmp_path: Path) -> RequestMaker:
    def make(models: Path = toy_models, spec: AuditSpec | None = None, parent_pid: int | None = None) -> Request:
        store = ModelsStore(models_root=toy_models, store_dir=tmp_path / "store")
        base, tuned = store.resolve("local:base"), store.resolve("local:adapter")
        return Request(
            audit_id="audit_1",
            spec=spec or toy_spec(),
            base=ModelFolder(path=models / "base", root=models, digest=base.digest),
            tuned=ModelFolder(path=models / "adapter", root=models, digest=tuned.digest),
            workspace=tmp_path / "audits" / "audit_1",
            cache=tmp_path / "cache",
            cache_bytes=2**30,
            device="cpu",
            limits=Limits(memory_bytes=4 * 2**30, file_bytes=2**30),
            parent_pid=os.getpid() if parent_pid is None else parent_pid,
        )

    return make


def listen(sandbox: SandboxProcess, timeout_s: float = 120) -> list[FromSandbox]:
    """Everything that the sandbox says until it is silent."""
    said: list[FromSandbox] = []
    give_up_at = time.monotonic() + timeout_s
    while not sandbox.silent:
        assert time.monotonic() < give_up_at
        said += sandbox.messages(0.5)
    return said


def wait_for_progress(sandbox: SandboxProcess, timeout_s: float = 120) -> Progress:
    give_up_at = time.monotonic() + timeout_s
    while time.monotonic() < give_up_at:
        for message in sandbox.messages(0.5):
            assert isinstance(message, Progress)
            return message
        assert not sandbox.silent
    raise AssertionError("no progress")


def test_the_environment_holds_no_secrets(tmp_path: Path) -> None:
    secrets = {"PGPASSWORD": "s", "BACKDOOR_AUDIT_DATABASE_URL": "s", "AWS_SECRET_ACCESS_KEY": "s", "HF_TOKEN": "s"}
    environment = sandbox_environment(tmp_path, {"PATH": "/bin", "OMP_NUM_THREADS": "1"} | secrets)
    assert "s" not in environment.values()
    assert environment["PATH"] == "/bin"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["HF_HUB_OFFLINE"] == environment["TRANSFORMERS_OFFLINE"] == "1"


def test_an_audit_runs_behind_the_walls(make_request: RequestMaker) -> None:
    request = make_request()
    with SandboxProcess(request) as sandbox:
        said = listen(sandbox)
        assert sandbox.wait(10) == 0
    assert isinstance(said[-1], Finished), said[-1]
    assert all(isinstance(message, Progress) for message in said[:-1])
    assert (request.workspace / "report" / "report.json").is_file()


@pytest.mark.parametrize("reason", ["cancel", "deadline", "shutdown"])
def test_an_interrupt_ends_it_in_good_order(make_request: RequestMaker, reason: str) -> None:
    request = make_request()
    with SandboxProcess(request) as sandbox:
        sandbox.interrupt(reason)  # type: ignore[arg-type]
        said = listen(sandbox)
        assert sandbox.wait(10) == 0
    assert said[-1] == Stopped(reason=reason)
    assert not (request.workspace / "report").exists()


def test_a_checkpoint_that_changed_since_is_refused(
    make_request: RequestMaker, toy_models: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(toy_models, models)
    (models / "adapter" / "adapter_model.safetensors").write_bytes(b"cos\nsystem\n")
    with SandboxProcess(make_request(models)) as sandbox:
        said = listen(sandbox)
    assert isinstance(said[-1], Failed)
    assert said[-1].failure.code == "model_rejected"


def test_it_ends_when_it_is_not_its_parents_child(make_request: RequestMaker) -> None:
    with SandboxProcess(make_request(parent_pid=1)) as sandbox:
        assert listen(sandbox) == []
        assert sandbox.wait(10) == os.EX_UNAVAILABLE


def test_a_killed_sandbox_falls_silent(make_request: RequestMaker) -> None:
    with SandboxProcess(make_request()) as sandbox:
        wait_for_progress(sandbox)
        os.kill(sandbox.pid, signal.SIGKILL)
        assert all(isinstance(message, Progress) for message in listen(sandbox))
        assert sandbox.wait(10) == -signal.SIGKILL


def test_one_that_does_not_listen_is_killed(make_request: RequestMaker) -> None:
    with SandboxProcess(make_request()) as sandbox:
        wait_for_progress(sandbox)
        os.kill(sandbox.pid, signal.SIGSTOP)
        sandbox.interrupt("cancel")
        assert sandbox.wait(0.5) == -signal.SIGKILL


def test_closing_leaves_nothing_behind(make_request: RequestMaker) -> None:
    sandbox = SandboxProcess(make_request())
    scratch = psutil.Process(sandbox.pid).cwd()
    sandbox.close()
    assert not psutil.pid_exists(sandbox.pid)
    assert not Path(scratch).exists()


def test_a_sandbox_that_babbles_is_found_out(make_request: RequestMaker) -> None:
    with SandboxProcess(make_request()) as sandbox:
        wait_for_progress(sandbox)
        pipe = Path(f"/proc/{sandbox.pid}/fd") / psutil.Process(sandbox.pid).cmdline()[-1]
        with pipe.open("wb", buffering=0) as stranger:
            stranger.write(b"Loading weights: 100%\n")
        with pytest.raises(ProtocolError):
            listen(sandbox)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's own guard is Linux's")
def test_it_dies_with_a_worker_that_is_killed(make_request: RequestMaker, tmp_path: Path) -> None:
    request = make_request()
    (tmp_path / "request.json").write_bytes(request.line())
    code = f"""
import os, time
from pathlib import Path
from common.logs import configure
from worker.sandbox.process import SandboxProcess
from worker.sandbox.protocol import read_request
configure()
request = read_request(Path({str(tmp_path / "request.json")!r}).read_bytes())
sandbox = SandboxProcess(request.model_copy(update={{"parent_pid": os.getpid()}}))
while not sandbox.messages(1):
    pass
print(sandbox.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        sandbox = int(worker.stdout.readline())
        worker.kill()
    wait_for(lambda: is_gone(sandbox), 10)  # it does not outlive its worker


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="descriptors are listed in Linux's /proc")
def test_it_inherits_nothing_of_the_workers_log(make_request: RequestMaker) -> None:
    with SandboxProcess(make_request()) as sandbox:
        folder = Path(f"/proc/{sandbox.pid}/fd")
        opened = {number.name: str(number.readlink()) for number in folder.iterdir()}
        os.kill(sandbox.pid, signal.SIGSTOP)
    assert all(opened[number].startswith("pipe:") for number in ("0", "1", "2"))
    ours = {os.fstat(number).st_ino for number in (1, 2)}
    assert not {f"pipe:[{inode}]" for inode in ours} & set(opened.values())
