"""What an attempt leaves on the disk when its audit has no use for it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from backdoor_audit.contract.lifecycle import Failure
from jobs.ledger import Ledger
from models_store.store import ModelsStore
from tests.processes import is_gone
from tests.toy import toy_spec
from worker.attempts.attempt import Attempt
from worker.attempts.context import WorkerContext
from worker.attempts.endings import End
from worker.sandbox.left_over import end_left_over, end_orphans
from worker.sandbox.protocol import Limits, ModelFolder, Reason, Request, Stopped


@pytest.fixture
def context(make_context: Callable[..., WorkerContext]) -> WorkerContext:
    return make_context(lease_s=6, heartbeat_s=1)


@pytest.mark.parametrize("deleted", [True, False])
def test_an_attempt_that_nobody_waits_for_leaves_nothing(
    context: WorkerContext, ledger: Ledger, *, deleted: bool
) -> None:
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    with context.artifacts.folder(audit_id).create("plan") as folder:
        (folder / "plan.json").write_text("{}")
    # The audit ends, and is deleted, without this worker.
    ledger.cancelled(claim)
    if deleted:
        ledger.delete(audit_id)
    assert Attempt(context, claim).run() is End.FORGOTTEN
    assert list(context.artifacts.audits()) == []


def test_an_attempt_that_lost_to_another_leaves_the_others_work_alone(context: WorkerContext, ledger: Ledger) -> None:
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    first = ledger.claim(audit_id, worker="w")
    assert first is not None
    ledger.release(first)
    assert ledger.claim(audit_id, worker="v") is not None
    with context.artifacts.folder(audit_id).create("plan") as folder:
        (folder / "plan.json").write_text("{}")
    assert Attempt(context, first).run() is End.FORGOTTEN
    assert context.artifacts.list(audit_id) == ["plan"]


@pytest.mark.parametrize("reason", ["cancel", "deadline", "shutdown"])
def test_a_stop_that_nobody_asked_for_is_a_lost_attempt(context: WorkerContext, ledger: Ledger, reason: Reason) -> None:
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None

    def say_it() -> None:
        give_up_at = time.monotonic() + 120
        while time.monotonic() < give_up_at:
            try:
                record = next(context.settings.sandbox_records.glob("*"))
                pid = int(record.name.split(".")[1])
                command = psutil.Process(pid).cmdline()
                if "worker.sandbox" in command:  # else it has not become the sandbox yet
                    with (Path(f"/proc/{pid}/fd") / command[-1]).open("wb", buffering=0) as planted:
                        planted.write(Stopped(reason=reason).line())
                    return
            except (StopIteration, IndexError, ValueError, OSError, psutil.Error):
                pass
            time.sleep(0.01)

    planter = threading.Thread(target=say_it, daemon=True)
    planter.start()
    assert Attempt(context, claim).run() is End.ABANDONED
    planter.join()
    assert ledger.get(audit_id).status == "queued"
    again = ledger.claim(audit_id, worker="w")
    assert again is not None
    assert again.attempt == claim.attempt + 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sandboxes are written down on Linux")
def test_a_checkpoint_that_is_touched_while_it_is_audited_has_no_report(
    context: WorkerContext, ledger: Ledger, toy_models: Path, tmp_path: Path
) -> None:
    for name in ("base", "adapter"):
        shutil.copytree(toy_models / name, tmp_path / "models" / name)
    context = replace(context, models=ModelsStore(models_root=tmp_path / "models", store_dir=tmp_path / "store"))
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    weights = tmp_path / "models" / "adapter" / "adapter_model.safetensors"

    def swap() -> None:
        give_up_at = time.monotonic() + 240
        while time.monotonic() < give_up_at and ledger.get(audit_id).stage in (None, "resolve"):
            time.sleep(0.02)
        weights.with_name("other").write_bytes(weights.read_bytes())
        weights.with_name("other").rename(weights)

    swapper = threading.Thread(target=swap, daemon=True)
    swapper.start()
    ending = Attempt(context, claim).run()
    swapper.join()
    assert isinstance(ending, Failure)
    assert ending.code == "model_rejected"
    assert ledger.get(audit_id).status == "failed"
    assert list(context.artifacts.audits()) == []


EARLIER = """
import sys, time
from pathlib import Path
from worker.sandbox.process import SandboxProcess
from worker.sandbox.protocol import read_request
import os
from common import logs
logs.configure()  # to standard error: the number below must be the only line of standard output
request = read_request(Path(sys.argv[1]).read_bytes()).model_copy(update={"parent_pid": os.getpid()})
sandbox = SandboxProcess(request, records=Path(sys.argv[2]))
while not sandbox.messages(1):
    pass
print(sandbox.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def earlier(context: WorkerContext, ledger: Ledger, toy_models: Path, tmp_path: Path) -> Iterator[tuple[str, int, int]]:
    """An audit, a worker that has stopped in the middle of it, and its sandbox, which goes on."""
    audit_id = ledger.submit(toy_spec(fine_tuned="local:nowhere"), owner="me").audit.id
    models = ModelFolder(path=toy_models / "base", root=toy_models, digest="sha256:0")
    request = Request(
        audit_id=audit_id,
        spec=toy_spec(),
        base=models,
        tuned=models.model_copy(update={"path": toy_models / "adapter"}),
        workspace=context.artifacts.folder(audit_id).root,
        cache=tmp_path / "cache",
        cache_bytes=2**30,
        device="cpu",
        limits=Limits(memory_bytes=None, file_bytes=None),
        parent_pid=0,
    )
    (tmp_path / "request.json").write_bytes(request.line())
    command = [sys.executable, "-c", EARLIER, str(tmp_path / "request.json"), str(context.settings.sandbox_records)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        sandbox = int(worker.stdout.readline())
        os.kill(sandbox, signal.SIGSTOP)  # in the middle of it, however fast the machine is
        os.kill(worker.pid, signal.SIGSTOP)
        yield audit_id, worker.pid, sandbox
        worker.kill()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are known by Linux's /proc")
def test_what_an_earlier_attempt_left_running_is_ended_first(
    context: WorkerContext, ledger: Ledger, earlier: tuple[str, int, int]
) -> None:
    audit_id, worker, sandbox = earlier
    assert end_left_over(context.settings.sandbox_records, "audit_other", timeout_s=0)
    assert end_orphans(context.settings.sandbox_records, timeout_s=0)
    assert not is_gone(sandbox)  # of another audit, and its worker lives
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    Attempt(context, claim).run()
    assert is_gone(sandbox)
    assert not is_gone(worker)
    assert list(context.settings.sandbox_records.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are known by Linux's /proc")
def test_a_process_that_got_the_number_of_a_sandbox_is_left_alone(
    context: WorkerContext, earlier: tuple[str, int, int]
) -> None:
    audit_id, _, sandbox = earlier
    (record,) = context.settings.sandbox_records.iterdir()
    started = record.name.rpartition(".")[2]
    record.write_text(record.read_text().replace(f'"started":{started}', f'"started":{int(started) - 1}'))
    assert end_left_over(context.settings.sandbox_records, audit_id, timeout_s=5)
    time.sleep(0.2)
    assert not is_gone(sandbox)
    os.kill(sandbox, signal.SIGKILL)
