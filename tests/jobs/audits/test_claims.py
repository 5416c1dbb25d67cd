"""One worker at a time, fenced by the attempt number."""

import pytest

from backdoor_audit.contract.lifecycle import Failure
from jobs.errors import LeaseLost


@pytest.fixture
def audit_id(ledger, spec):
    return ledger.submit(spec, owner="ann").audit.id


def all_writes(ledger, claim, report):
    return {
        "heartbeat": lambda: ledger.heartbeat(claim),
        "progress": lambda: ledger.progress(claim, "extract", 0.5),
        "succeed": lambda: ledger.succeed(claim, report),
        "fail": lambda: ledger.fail(claim, Failure(code="internal", message="x")),
        "cancelled": lambda: ledger.cancelled(claim),
        "release": lambda: ledger.release(claim),
        "lose": lambda: ledger.lose(claim, "gone"),
    }


def test_a_claim_carries_what_the_worker_needs(ledger, audit_id, spec):
    claim = ledger.claim(audit_id, worker="w1")
    assert (claim.audit_id, claim.attempt, claim.spec, claim.owner, claim.worker) == (audit_id, 1, spec, "ann", "w1")
    assert claim.deadline_at is None
    assert claim.seconds_left is None
    record = ledger.get(audit_id)
    assert record.status == "running"
    assert record.attempt == 1
    assert record.started_at >= record.created_at


def test_what_is_claimed_or_unknown_cannot_be_claimed(ledger, audit_id):
    assert ledger.claim(audit_id, worker="w1") is not None
    assert ledger.claim(audit_id, worker="w2") is None
    assert ledger.claim("audit_" + "0" * 26, worker="w2") is None
    assert ledger.claim("nonsense\0", worker="w2") is None


def test_a_worker_needs_a_name(ledger, audit_id):
    with pytest.raises(ValueError, match="worker"):
        ledger.claim(audit_id, worker="")


def test_success_stores_report_and_verdict_together(ledger, audit_id, make_report):
    claim = ledger.claim(audit_id, worker="w1")
    ledger.succeed(claim, make_report(audit_id, "review"))
    record = ledger.get(audit_id)
    assert (record.status, record.verdict, record.progress) == ("succeeded", "review", 1.0)
    assert record.finished_at is not None
    assert ledger.report(audit_id) == make_report(audit_id, "review")


def test_a_report_of_another_audit_is_refused(ledger, audit_id, make_report):
    claim = ledger.claim(audit_id, worker="w1")
    with pytest.raises(ValueError, match="cannot end"):
        ledger.succeed(claim, make_report("audit_" + "1" * 26))
    assert ledger.get(audit_id).status == "running"


def test_failure_is_kept_and_made_storable(ledger, audit_id):
    claim = ledger.claim(audit_id, worker="w1")
    ledger.fail(claim, Failure(code="model_rejected", message="bad\0 \ud800 file", hint="look"))
    record = ledger.get(audit_id)
    assert record.status == "failed"
    assert record.failure == Failure(code="model_rejected", message="bad ? file", hint="look")


def test_after_the_end_every_write_is_fenced_out(ledger, audit_id, make_report):
    claim = ledger.claim(audit_id, worker="w1")
    ledger.fail(claim, Failure(code="internal", message="x"))
    before = ledger.get(audit_id)
    for write in all_writes(ledger, claim, make_report(audit_id)).values():
        with pytest.raises(LeaseLost):
            write()
    assert ledger.get(audit_id) == before


@pytest.mark.parametrize("name", ["heartbeat", "progress", "succeed", "fail", "cancelled", "release"])
def test_an_earlier_attempt_is_fenced_out(ledger, audit_id, make_report, make_due, name):
    lost = ledger.claim(audit_id, worker="w1")
    make_due(ledger, audit_id)
    assert ledger.reap() == [audit_id]
    live = ledger.claim(audit_id, worker="w2")
    assert live.attempt == 2
    before = ledger.get(audit_id)
    with pytest.raises(LeaseLost):
        all_writes(ledger, lost, make_report(audit_id))[name]()
    assert ledger.get(audit_id) == before
    ledger.succeed(live, make_report(audit_id))
    assert ledger.get(audit_id).status == "succeeded"


def test_writes_to_a_deleted_audit_are_fenced_out(ledger, audit_id):
    claim = ledger.claim(audit_id, worker="w1")
    ledger.fail(claim, Failure(code="internal", message="x"))
    ledger.delete(audit_id)
    with pytest.raises(LeaseLost):
        ledger.heartbeat(claim)


def test_a_lease_that_ran_out_still_holds_until_somebody_acts(ledger, audit_id, make_due):
    claim = ledger.claim(audit_id, worker="w1")
    make_due(ledger, audit_id)
    ledger.heartbeat(claim)
    assert ledger.reap() == []
    assert ledger.get(audit_id).status == "running"


def test_heartbeats_keep_a_short_lease_alive(url, open_ledger, spec, clock):
    ledger = open_ledger(url, lease_s=3, requeue_after_s=60, clock=clock)
    audit_id = ledger.submit(spec, owner="ann").audit.id
    claim = ledger.claim(audit_id, worker="w1")
    version = ledger.get(audit_id).version
    for _ in range(4):
        clock.advance(2.9)
        ledger.heartbeat(claim)
        assert ledger.reap() == []
    assert ledger.get(audit_id).version == version
    clock.advance(2.9)
    assert ledger.reap() == []
    clock.advance(0.1)
    assert ledger.reap() == [audit_id]
    with pytest.raises(LeaseLost):
        ledger.heartbeat(claim)


def test_release_gives_back_at_once_and_does_not_count(url, open_ledger, spec, make_due):
    ledger = open_ledger(url, max_attempts=2)
    audit_id = ledger.submit(spec, owner="ann").audit.id
    for attempt in range(1, 5):
        claim = ledger.claim(audit_id, worker="w1")
        assert claim.attempt == attempt
        ledger.release(claim)
        assert ledger.get(audit_id).status == "queued"
        assert ledger.reap() == [audit_id]
        assert ledger.reap() == []
    ledger.claim(audit_id, worker="w1")
    make_due(ledger, audit_id)
    assert ledger.reap() == [audit_id]
    assert ledger.get(audit_id).status == "queued"


def test_progress_moves_and_makes_events_at_sensible_steps(ledger, audit_id):
    claim = ledger.claim(audit_id, worker="w1")
    ledger.progress(claim, "resolve", 1.0)
    before = len(ledger.events(audit_id))
    for step in range(101):
        ledger.progress(claim, "extract", step / 100, f"batch {step}")
    record = ledger.get(audit_id)
    assert (record.stage, record.message) == ("extract", "batch 100")
    assert record.progress == pytest.approx(0.02 + 0.03 + 0.30)
    steps = [event for event in ledger.events(audit_id)[before:] if event.kind == "progress"]
    assert 15 <= len(steps) <= 22
    assert {event.stage for event in steps} == {"extract"}


def test_progress_that_says_nothing_new_leaves_the_version(ledger, audit_id):
    claim = ledger.claim(audit_id, worker="w1")
    ledger.progress(claim, "train", 0.5, "epoch 1")
    version = ledger.get(audit_id).version
    ledger.progress(claim, "train", 0.5, "epoch 1")
    assert ledger.get(audit_id).version == version
    ledger.progress(claim, "train", 0.5, "epoch 2")
    assert ledger.get(audit_id).version == version + 1


def test_progress_takes_any_number_and_any_text(ledger, audit_id):
    claim = ledger.claim(audit_id, worker="w1")
    for fraction in (float("nan"), float("inf"), -1.0, 2.0):
        ledger.progress(claim, "train", fraction, "\0\ud800" + "x" * 10_000)
    record = ledger.get(audit_id)
    assert 0 <= record.progress <= 1
    assert len(record.message) == 2_000
