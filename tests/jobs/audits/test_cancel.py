"""A cancel that was accepted is kept, and there is one terminal state."""

import pytest

from backdoor_audit.contract.lifecycle import Failure
from jobs.errors import AuditNotFound, LeaseLost, ReportNotReady


@pytest.fixture
def audit_id(ledger, spec):
    return ledger.submit(spec, owner="ann").audit.id


def test_a_queued_audit_is_cancelled_at_once(ledger, audit_id):
    record = ledger.request_cancel(audit_id)
    assert record.status == "cancelled"
    assert record.finished_at is not None
    assert ledger.claim(audit_id, worker="w1") is None
    assert ledger.get(audit_id) == record


def test_a_running_audit_is_asked_to_stop(ledger, audit_id):
    claim = ledger.claim(audit_id, worker="w1")
    assert not ledger.heartbeat(claim).cancel_requested
    assert not ledger.progress(claim, "train", 0.1)
    assert ledger.request_cancel(audit_id).status == "cancelling"
    assert ledger.heartbeat(claim).cancel_requested
    assert ledger.progress(claim, "train", 0.5)
    assert ledger.progress(claim, "train", 0.5), "also where nothing new is said"
    ledger.cancelled(claim)
    assert ledger.get(audit_id).status == "cancelled"
    with pytest.raises(LeaseLost):
        ledger.heartbeat(claim)


def test_asking_twice_changes_nothing(ledger, audit_id):
    ledger.claim(audit_id, worker="w1")
    first = ledger.request_cancel(audit_id)
    assert ledger.request_cancel(audit_id) == first


@pytest.mark.parametrize("how", ["succeed", "fail", "cancelled", "release", "lose"])
def test_whatever_comes_while_cancelling_ends_cancelled(ledger, audit_id, make_report, make_due, how):
    claim = ledger.claim(audit_id, worker="w1")
    ledger.request_cancel(audit_id)
    if how == "succeed":
        ledger.succeed(claim, make_report(audit_id))
    elif how == "fail":
        ledger.fail(claim, Failure(code="internal", message="x"))
    elif how == "cancelled":
        ledger.cancelled(claim)
    elif how == "release":
        ledger.release(claim)
    else:
        make_due(ledger, audit_id)
        assert ledger.reap() == []
    record = ledger.get(audit_id)
    assert (record.status, record.verdict, record.failure) == ("cancelled", None, None)
    with pytest.raises(ReportNotReady):
        ledger.report(audit_id)
    assert [event.status for event in ledger.events(audit_id)] == ["queued", "running", "cancelling", "cancelled"]


def test_a_stored_report_survives_a_late_cancel(ledger, audit_id, make_report):
    claim = ledger.claim(audit_id, worker="w1")
    ledger.succeed(claim, make_report(audit_id))
    before = ledger.get(audit_id)
    assert ledger.request_cancel(audit_id) == before
    assert ledger.report(audit_id) == make_report(audit_id)


def test_only_the_owner_can_cancel(ledger, audit_id):
    with pytest.raises(AuditNotFound):
        ledger.request_cancel(audit_id, owner="bob")
    assert ledger.get(audit_id).status == "queued"
    assert ledger.request_cancel(audit_id, owner="ann").status == "cancelled"
