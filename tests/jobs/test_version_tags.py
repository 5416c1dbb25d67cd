"""What the tags of registered versions are to say, on both databases."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from backdoor_audit.contract.lifecycle import Failure
from jobs.database.tables import version_tags
from jobs.version_tags import TagTask

REFERENCE = "mlflow:sql-writer/3"


@pytest.fixture
def registered(make_spec):
    """A spec that audits a registered version."""
    return make_spec(fine_tuned=REFERENCE)


@pytest.fixture
def succeed(ledger, registered, make_report):
    def end(verdict="flagged", owner="ann", spec=registered):
        audit_id = ledger.submit(spec, owner=owner).audit.id
        ledger.succeed(ledger.claim(audit_id, worker="w"), make_report(audit_id, verdict))
        return audit_id

    return end


def row(ledger):
    return ledger._read(lambda connection: connection.execute(select(version_tags)).one_or_none())


def make_due(ledger):
    ledger._write(lambda connection: connection.execute(update(version_tags).values(due_tick=0.0)))


def test_only_audits_of_registered_versions_are_noted(ledger, succeed, spec):
    succeed(spec=spec)
    assert ledger.tags.take(lease_s=10) is None
    audit_id = succeed()
    task = ledger.tags.take(lease_s=10)
    assert (task.reference, task.tries) == (REFERENCE, 0)
    ends = ledger.tags.ends(task.reference)
    assert (ends.last_id, ends.last_status) == (audit_id, "succeeded")
    assert (ends.answer.audit_id, ends.answer.verdict) == (audit_id, "flagged")
    assert ends.answer.tuned_digest == ledger.report(audit_id).provenance.tuned_digest
    assert ends.answer.method_version == ledger.report(audit_id).method_version
    assert ledger.tags.take(lease_s=10) is None
    ledger.tags.settle(task, error=None, retry_in_s=None)
    assert (row(ledger).state, row(ledger).tries) == ("written", 1)
    assert ledger.tags.take(lease_s=10) is None


def test_the_gravest_answer_stays_whoever_asked(ledger, registered, succeed):
    def verdict():
        answer = ledger.tags.ends(REFERENCE).answer
        return None if answer is None else (answer.audit_id, answer.verdict)

    failed = ledger.submit(registered, owner="ann").audit.id
    ledger.fail(ledger.claim(failed, worker="w"), Failure(code="internal", message="x"))
    assert verdict() is None
    invalid = succeed("invalid")
    assert verdict() == (invalid, "invalid")
    first = succeed("no_evidence")
    assert verdict() == (first, "no_evidence")
    second = succeed("no_evidence", owner="ben")
    assert verdict() == (second, "no_evidence")
    flagged = succeed("flagged")
    succeed("review")
    last = succeed("no_evidence")
    assert verdict() == (flagged, "flagged")
    cancelled = ledger.submit(registered, owner="ann").audit.id
    ledger.request_cancel(cancelled)
    ends = ledger.tags.ends(REFERENCE)
    assert (ends.last_id, ends.last_status) == (cancelled, "cancelled")
    for audit_id in (flagged, cancelled):
        ledger.delete(audit_id)
    assert verdict()[1] == "review"
    assert ledger.tags.ends(REFERENCE).last_id == last
    assert ledger.tags.ends("mlflow:sql-writer/4") is None


def test_an_end_while_the_tags_are_written_is_written_afterwards(ledger, succeed):
    succeed("no_evidence")
    task = ledger.tags.take(lease_s=60)
    succeed("flagged")
    # Whoever writes them writes them alone.
    assert ledger.tags.take(lease_s=60) is None
    ledger.tags.settle(task, error=None, retry_in_s=None)
    again = ledger.tags.take(lease_s=60)
    assert (again.reference, again.generation, again.tries) == (REFERENCE, task.generation + 1, 0)
    ledger.tags.settle(again, error=None, retry_in_s=None)
    assert row(ledger).state == "written"


def test_what_fails_is_tried_again_as_often_as_it_may(ledger, succeed):
    succeed()
    task = ledger.tags.take(lease_s=60)
    ledger.tags.settle(task, error="unreachable", retry_in_s=100)
    assert (row(ledger).state, row(ledger).error) == ("pending", "unreachable")
    assert ledger.tags.take(lease_s=60) is None
    make_due(ledger)
    task = ledger.tags.take(lease_s=60)
    assert task.tries == 1
    ledger.tags.settle(task, error="refused", retry_in_s=None)
    assert (row(ledger).state, row(ledger).error) == ("failed", "refused")
    # The next end begins anew.
    succeed()
    task = ledger.tags.take(lease_s=60)
    assert task.tries == 0


def test_a_writer_that_died_lets_the_version_go(ledger, succeed):
    succeed()
    task = ledger.tags.take(lease_s=60)
    make_due(ledger)
    assert ledger.tags.take(lease_s=60) == task


def test_notes_are_forgotten_in_the_end(ledger, succeed):
    succeed()
    assert ledger.tags.prune(older_than_s=60) == 0
    assert ledger.tags.prune(older_than_s=-60) == 1
    assert row(ledger) is None
    ledger.tags.settle(TagTask(REFERENCE, 1, 0), error=None, retry_in_s=None)


def test_an_answer_about_other_weights_of_that_name_does_not_count(ledger, succeed):
    audit_id = succeed("flagged")
    digest = ledger.report(audit_id).provenance.tuned_digest
    now = ledger.now()
    assert ledger.tags.ends(REFERENCE, tuned_digest=digest).answer.audit_id == audit_id
    assert ledger.tags.ends(REFERENCE, tuned_digest="sha256:other").answer is None
    assert ledger.tags.ends(REFERENCE, since=now - timedelta(hours=1)).answer.audit_id == audit_id
    assert ledger.tags.ends(REFERENCE, since=now + timedelta(hours=1)).answer is None
    assert ledger.tags.ends(REFERENCE, tuned_digest="sha256:other").last_id == audit_id
