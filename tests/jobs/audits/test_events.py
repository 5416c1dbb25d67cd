"""The history of an audit."""

import pytest

from backdoor_audit.contract.lifecycle import Failure


@pytest.fixture
def history(ledger, spec):
    audit_id = ledger.submit(spec, owner="ann").audit.id
    claim = ledger.claim(audit_id, worker="w1")
    ledger.progress(claim, "extract", 0.5, "half")
    ledger.release(claim)
    claim = ledger.claim(audit_id, worker="w2")
    ledger.fail(claim, Failure(code="internal", message="broke"))
    return audit_id


def test_it_tells_what_happened_in_order(ledger, history):
    told = [(event.kind, event.status, event.attempt, event.stage) for event in ledger.events(history)]
    assert told == [
        ("status", "queued", 0, None),
        ("status", "running", 1, None),
        ("progress", "running", 1, "extract"),
        ("status", "queued", 1, "extract"),
        ("status", "running", 2, "extract"),
        ("status", "failed", 2, "extract"),
    ]
    events = ledger.events(history)
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert events[2].message == "half"
    assert events[-1].message == "broke"
    assert {event.audit_id for event in events} == {history}


def test_it_can_be_read_from_where_one_stopped(ledger, history):
    assert [event.sequence for event in ledger.events(history, after=2, limit=3)] == [3, 4, 5]
    assert ledger.events(history, after=6) == []
    assert ledger.events("audit_" + "0" * 26) == []
