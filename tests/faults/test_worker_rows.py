"""Rows of the fault matrix in which a worker, or the process of an audit, dies, sleeps or is told to go."""

import signal
import time

import psutil
import pytest

from backdoor_audit.contract.report.audit_report import AuditReport
from tests.faults.stack import DICTIONARIES, WHOLE, System, processes_below, until
from tests.processes import is_gone
from tests.toy import toy_spec

pytestmark = pytest.mark.timeout(900)

EXTRACTED = ("continuations", "tuned-", "base-", "decoy-", "directions")


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


Marks = dict[str, tuple[int, int]]


def assert_kept(system: System, audit_id: str, before: Marks) -> None:
    """What was finished before is still the same folders: nothing was computed again."""
    after = system.marks(audit_id)
    assert {name: after.get(name) for name in before} == before


def test_row_03_worker_child_killed(system: System, undisturbed: AuditReport) -> None:
    worker = system.start_worker(max_attempts="5")
    reaped = system.ledger.counts().reaped_total
    audit_id = system.ledger.submit(WHOLE, owner="local").audit.id
    # Many files where the report goes: clearing them away makes the last stage long enough to be hit.
    heap = system.workspace(audit_id).root / "report"
    heap.mkdir(parents=True)
    for number in range(20_000):
        (heap / str(number)).touch()
    system.dispatcher.enqueue(audit_id)

    extracting = worker.sandbox()
    system.wait_for_folders(audit_id, 4, "tuned-", "base-")
    extracting.kill()
    extracting.wait(30)
    in_extract = system.marks(audit_id)
    assert "directions" not in in_extract, "it was hit in extract"

    training = _next_sandbox(worker.process.pid, extracting)
    system.wait_for_folders(audit_id, 1, "dictionary-")
    training.kill()
    training.wait(30)
    in_train = system.marks(audit_id)
    assert len([name for name in in_train if name.startswith("dictionary-")]) < DICTIONARIES, "it was hit in train"
    assert_kept(system, audit_id, {name: mark for name, mark in in_extract.items() if name != "report"})

    reporting = _next_sandbox(worker.process.pid, training)
    root = system.workspace(audit_id).root
    until(lambda: any(root.glob(".trash-*")), 240, "no report stage")
    reporting.kill()
    reporting.wait(30)
    in_report = system.marks(audit_id)
    assert "report" not in in_report, "it was hit before the report was there"
    assert "confirmation" in in_report
    assert_kept(system, audit_id, {name: mark for name, mark in in_train.items() if name != "report"})

    assert_same_answer(system.succeeded(audit_id), undisturbed)
    assert_kept(system, audit_id, in_report)
    assert system.ledger.get(audit_id).attempt == system.claims(audit_id) == 4
    assert system.ledger.counts().reaped_total == reaped, "nobody waited for a lease to run out"
    assert worker.process.poll() is None


def test_row_04_worker_parent_killed(system: System, undisturbed: AuditReport) -> None:
    first = system.start_worker()
    audit_id = system.post(WHOLE)
    first.sandbox()
    system.wait_for_folders(audit_id, 1, "dictionary-")
    below = processes_below(first.process.pid)
    assert below
    first.process.kill()
    first.process.wait()
    until(lambda: all(is_gone(pid) for pid in below), 10, "an orphan is left")
    before = system.marks(audit_id)
    assert system.ledger.get(audit_id).status == "running", "nobody knows yet"
    system.start_worker()
    assert_same_answer(system.succeeded(audit_id), undisturbed)
    assert_kept(system, audit_id, before)
    assert system.ledger.get(audit_id).attempt == 2


def test_row_05_worker_stopped_past_its_lease(system: System, undisturbed: AuditReport) -> None:
    sleeper = system.start_worker()
    audit_id = system.post(WHOLE)
    sandbox = sleeper.sandbox()
    system.wait_for_folders(audit_id, 2, "tuned-")
    sleeper.process.send_signal(signal.SIGSTOP)
    sandbox.suspend()
    second = system.start_worker()
    system.wait(audit_id, lambda record: record.attempt == 2)
    second.sandbox()
    sandbox.resume()
    sleeper.process.send_signal(signal.SIGCONT)
    assert_same_answer(system.succeeded(audit_id), undisturbed)
    assert system.ledger.get(audit_id).attempt == 2
    gone, _ = psutil.wait_procs([sandbox], timeout=30)
    assert gone, "the sandbox of a lost lease is killed"

    # The sleeper may see that its sandbox is dead before it sees that its lease is gone; the ledger then refuses it.
    def gave_up() -> bool:
        events = {(line["event"], line.get("ending")) for line in sleeper.logged()}
        return ("attempt.ended", "FORGOTTEN") in events or ("attempt.fenced", None) in events

    until(gave_up, 30, "the sleeper never noticed")
    endings = [line["ending"] for line in sleeper.logged() if line["event"] == "attempt.ended"]
    assert endings in (["FORGOTTEN"], ["ABANDONED"]), "what it did afterwards counted for nothing"
    assert system.ledger.get(audit_id).attempt == 2


def test_row_06_audit_that_always_dies(system: System) -> None:
    worker = system.start_worker()
    audit_id = system.post(toy_spec())
    sandbox = None
    for _ in range(3):
        sandbox = _next_sandbox(worker.process.pid, sandbox)
        sandbox.kill()
        sandbox.wait(30)
    record = system.end_of(audit_id)
    assert record.failure is not None
    assert (record.failure.code, record.attempt) == ("worker_lost", 3)
    assert record.failure.hint
    system.one_end(audit_id)
    system.succeeded(system.post(toy_spec(seed=1)))
    until(lambda: not system.workspace(audit_id).root.exists(), 60, "its artifacts are left")


def test_row_13_worker_told_to_go_during_training(system: System, undisturbed: AuditReport) -> None:
    grace_s = 15
    worker = system.start_worker(shutdown_grace_s=str(grace_s))
    audit_id = system.post(WHOLE)
    sandbox = worker.sandbox()
    system.wait_for_folders(audit_id, 1, "dictionary-")
    told = time.monotonic()
    worker.process.terminate()
    assert worker.process.wait(60) == 0
    assert time.monotonic() - told < grace_s, "it went within its grace period"
    assert not sandbox.is_running()
    assert not any(line["event"] == "sandbox.killed" for line in worker.logged()), "nothing had to be killed"
    record = system.ledger.get(audit_id)
    assert (record.status, record.stage) == ("queued", "train")
    before = system.marks(audit_id)
    assert {name for name in before if name.startswith(EXTRACTED)}
    system.start_worker(max_attempts="1")
    assert_same_answer(system.succeeded(audit_id), undisturbed)
    assert_kept(system, audit_id, before)


def _next_sandbox(worker: int, before: psutil.Process | None) -> psutil.Process:
    """The sandbox after this one."""
    found: list[psutil.Process] = []

    def look() -> bool:
        found[:] = [child for child in psutil.Process(worker).children() if before is None or child.pid != before.pid]
        return bool(found)

    until(look, 240, "no sandbox was started")
    return found[0]
