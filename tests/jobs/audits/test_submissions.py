"""One row, one key, one transaction."""

import pytest

from backdoor_audit.contract.lifecycle import Failure
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.errors import AuditNotFound, IdempotencyConflict, QueueFull
from jobs.ids import is_audit_id


def test_a_new_audit_is_queued(ledger, spec):
    submission = ledger.submit(spec, owner="ann")
    record = submission.audit
    assert submission.created
    assert is_audit_id(record.id)
    assert (record.status, record.owner, record.spec, record.attempt) == ("queued", "ann", spec, 0)
    assert (record.stage, record.progress, record.verdict, record.failure) == (None, 0.0, None, None)
    assert (record.started_at, record.finished_at, record.version) == (None, None, 1)
    assert record.created_at.utcoffset().total_seconds() == 0
    assert ledger.get(record.id) == record


def test_labels_are_those_of_the_spec(ledger, make_spec):
    record = ledger.submit(make_spec(labels={"pipeline": "12"}), owner="ann").audit
    assert record.labels == {"pipeline": "12"}


def test_without_a_key_each_call_is_an_audit(ledger, spec):
    assert ledger.submit(spec, owner="ann").audit.id != ledger.submit(spec, owner="ann").audit.id


def test_same_key_and_body_give_the_same_audit_as_it_is_now(ledger, spec):
    first = ledger.submit(spec, owner="ann", idempotency_key="k")
    ledger.claim(first.audit.id, worker="w1")
    again = ledger.submit(spec, owner="ann", idempotency_key="k")
    assert not again.created
    assert again.audit == ledger.get(first.audit.id)
    assert again.audit.status == "running"
    assert len(ledger.list().audits) == 1


def test_bodies_are_compared_by_meaning(ledger, make_spec):
    prompts = make_spec(carriers={"prompts": ["a", "b"]})
    spelled_out = AuditSpec.model_validate(
        prompts.model_dump(mode="json") | {"carriers": {"prompts": [{"prompt": "a"}, {"prompt": "b", "slot": "user"}]}}
    )
    first = ledger.submit(prompts, owner="ann", idempotency_key="k")
    again = ledger.submit(spelled_out, owner="ann", idempotency_key="k")
    assert (again.created, again.audit.id) == (False, first.audit.id)


def test_same_key_other_body_is_a_conflict(ledger, spec, make_spec):
    ledger.submit(spec, owner="ann", idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        ledger.submit(make_spec(seed=1), owner="ann", idempotency_key="k")
    assert len(ledger.list().audits) == 1


def test_a_key_belongs_to_its_owner(ledger, spec, make_spec):
    ann = ledger.submit(spec, owner="ann", idempotency_key="k")
    bob = ledger.submit(make_spec(seed=1), owner="bob", idempotency_key="k")
    assert bob.created
    assert bob.audit.id != ann.audit.id


def test_a_key_lives_as_long_as_its_audit(ledger, spec, make_spec):
    first = ledger.submit(spec, owner="ann", idempotency_key="k").audit
    ledger.request_cancel(first.id)
    ledger.delete(first.id)
    second = ledger.submit(make_spec(seed=1), owner="ann", idempotency_key="k")
    assert second.created


@pytest.mark.parametrize("name", ["", "x" * 256, "a\0b", "\ud800"])
def test_names_that_a_database_would_refuse(ledger, spec, name):
    with pytest.raises(ValueError, match="owner"):
        ledger.submit(spec, owner=name)
    with pytest.raises(ValueError, match="idempotency key"):
        ledger.submit(spec, owner="ann", idempotency_key=name)
    assert ledger.list().audits == ()


def test_an_audit_is_seen_by_its_owner_alone(ledger, spec):
    audit_id = ledger.submit(spec, owner="ann").audit.id
    assert ledger.get(audit_id, owner="ann").id == audit_id
    for call in (ledger.get, ledger.report, ledger.delete, ledger.request_cancel):
        with pytest.raises(AuditNotFound):
            call(audit_id, owner="bob")


@pytest.mark.parametrize("audit_id", ["", "audit_", "audit_" + "0" * 26, "audit_\0", "' OR 1=1", "x" * 10_000])
def test_unknown_ids(ledger, audit_id):
    for call in (ledger.get, ledger.report, ledger.delete, ledger.request_cancel):
        with pytest.raises(AuditNotFound):
            call(audit_id)


def test_large_unicode_specs_come_back_whole(ledger, make_spec):
    spec = make_spec(carriers={"prompts": [f"Grüße {n} 你好 \U0001f600 \\ \" '" for n in range(500)]})
    audit_id = ledger.submit(spec, owner="ann").audit.id
    ledger._spec_cache._parsed.clear()
    assert ledger.get(audit_id).spec == spec


def test_a_failed_audit_can_be_deleted_whole(ledger, spec):
    audit_id = ledger.submit(spec, owner="ann", idempotency_key="k").audit.id
    claim = ledger.claim(audit_id, worker="w1")
    ledger.fail(claim, Failure(code="internal", message="x"))
    ledger.delete(audit_id)
    assert ledger.events(audit_id) == []
    with pytest.raises(AuditNotFound):
        ledger.get(audit_id)


def test_an_owners_queue_has_an_end(url, open_ledger, spec):
    ledger = open_ledger(url, max_queued=2)
    first = ledger.submit(spec, owner="ann", idempotency_key="one")
    ledger.submit(spec, owner="ann")
    with pytest.raises(QueueFull):
        ledger.submit(spec, owner="ann")
    assert not ledger.submit(spec, owner="ann", idempotency_key="one").created
    assert ledger.submit(spec, owner="bob").created
    ledger.claim(first.audit.id, worker="w")
    assert ledger.submit(spec, owner="ann").created
    with pytest.raises(QueueFull):
        ledger.submit(spec, owner="ann")
