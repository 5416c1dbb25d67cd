"""Random histories: whatever happens in whatever order, the promises hold.

The machine keeps its own small idea of each audit and compares the ledger with it after every step.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import delete, func, select

from backdoor_audit.contract.lifecycle import STAGES, TERMINAL, Failure
from jobs.database.tables import audits, reports
from jobs.errors import AuditNotFound, AuditNotTerminal, LeaseLost, ReportNotReady

MAX_ATTEMPTS = 2
KEYS = ("k0", "k1", "k2")
OWNER = "ann"


@dataclass
class Expected:
    """What an audit should be."""

    status: str = "queued"
    lost: int = 0
    live: object = None
    due: bool = False
    verdict: str | None = None
    version: int = 1
    claims: list = field(default_factory=list)

    def end(self, status, *, verdict=None):
        self.status = "cancelled" if self.status == "cancelling" else status
        self.verdict = verdict if self.status == "succeeded" else None
        self.live, self.due = None, False


class Histories(RuleBasedStateMachine):
    """Everything that can be done to a ledger, in any order."""

    ledger = spec = make_report = make_due = None

    def __init__(self):
        super().__init__()
        self.ledger._database.write(lambda connection: connection.execute(delete(audits)))
        self.known = {}
        self.keys = {}

    def some_audit(self, data):
        return data.draw(st.sampled_from(sorted(self.known)), label="audit")

    def some_claim(self, data):
        claims = [claim for one in self.known.values() for claim in one.claims]
        return data.draw(st.sampled_from(claims), label="claim")

    def fenced(self, claim, write):
        """Do a worker's write; returns what is expected of its audit if the claim is live, else None."""
        expected = self.known[claim.audit_id]
        if expected.live is claim:
            write()
            return expected
        with pytest.raises(LeaseLost):
            write()
        return None

    has_audits = precondition(lambda self: self.known)
    has_claims = precondition(lambda self: any(one.claims for one in self.known.values()))

    @rule(key=st.sampled_from((None, *KEYS)))
    def submit(self, key):
        submission = self.ledger.submit(self.spec, owner=OWNER, idempotency_key=key)
        assert submission.created == (key not in self.keys)
        if submission.created:
            self.known[submission.audit.id] = Expected()
            if key is not None:
                self.keys[key] = submission.audit.id
        else:
            assert submission.audit.id == self.keys[key]

    @has_audits
    @rule(data=st.data())
    def claim(self, data):
        audit_id = self.some_audit(data)
        expected = self.known[audit_id]
        claim = self.ledger.claim(audit_id, worker="w")
        assert (claim is not None) == (expected.status == "queued")
        if claim is not None:
            assert claim.attempt == len(expected.claims) + 1
            expected.claims.append(claim)
            expected.status, expected.live, expected.due = "running", claim, False

    @has_claims
    @rule(data=st.data())
    def heartbeat(self, data):
        claim = self.some_claim(data)
        answers = []
        expected = self.fenced(claim, lambda: answers.append(self.ledger.heartbeat(claim)))
        if expected is not None:
            assert answers[0].cancel_requested == (expected.status == "cancelling")
            expected.due = False

    @has_claims
    @rule(data=st.data(), stage=st.sampled_from(STAGES), fraction=st.floats(0, 1))
    def progress(self, data, stage, fraction):
        claim = self.some_claim(data)
        self.fenced(claim, lambda: self.ledger.progress(claim, stage, fraction))

    @has_claims
    @rule(data=st.data(), verdict=st.sampled_from(("flagged", "review", "no_evidence", "invalid")))
    def succeed(self, data, verdict):
        claim = self.some_claim(data)
        report = self.make_report(claim.audit_id, verdict)
        expected = self.fenced(claim, lambda: self.ledger.succeed(claim, report))
        if expected is not None:
            expected.end("succeeded", verdict=verdict)

    @has_claims
    @rule(data=st.data())
    def fail(self, data):
        claim = self.some_claim(data)
        failure = Failure(code="internal", message="x")
        expected = self.fenced(claim, lambda: self.ledger.fail(claim, failure))
        if expected is not None:
            expected.end("failed")

    @has_claims
    @rule(data=st.data())
    def stop(self, data):
        claim = self.some_claim(data)
        expected = self.fenced(claim, lambda: self.ledger.cancelled(claim))
        if expected is not None:
            expected.end("cancelled")

    @has_claims
    @rule(data=st.data())
    def release(self, data):
        claim = self.some_claim(data)
        expected = self.fenced(claim, lambda: self.ledger.release(claim))
        if expected is not None and expected.status == "cancelling":
            expected.end("cancelled")
        elif expected is not None:
            expected.status, expected.live, expected.due = "queued", None, True

    @has_claims
    @rule(data=st.data())
    def lose(self, data):
        claim = self.some_claim(data)
        expected = self.fenced(claim, lambda: self.ledger.lose(claim, "gone"))
        if expected is None:
            return
        expected.lost += 1
        if expected.status == "cancelling" or expected.lost >= MAX_ATTEMPTS:
            expected.end("failed")
        else:
            expected.status, expected.live, expected.due = "queued", None, True

    @has_audits
    @rule(data=st.data())
    def cancel(self, data):
        audit_id = self.some_audit(data)
        expected = self.known[audit_id]
        if expected.status == "queued":
            expected.end("cancelled")
        elif expected.status == "running":
            expected.status = "cancelling"
        assert self.ledger.request_cancel(audit_id).status == expected.status

    @has_audits
    @rule(data=st.data())
    def expire(self, data):
        audit_id = self.some_audit(data)
        self.make_due(self.ledger, audit_id)
        self.known[audit_id].due = self.known[audit_id].status not in TERMINAL

    @rule()
    def reap(self):
        handed_out = set()
        for audit_id, expected in self.known.items():
            if not expected.due:
                continue
            if expected.status in ("running", "cancelling"):
                expected.lost += 1
                if expected.status == "cancelling" or expected.lost >= MAX_ATTEMPTS:
                    expected.end("failed")
                    continue
                expected.status, expected.live = "queued", None
            expected.due = False
            handed_out.add(audit_id)
        answer = self.ledger.reap()
        assert sorted(answer) == sorted(handed_out)

    @has_audits
    @rule(data=st.data())
    def delete(self, data):
        audit_id = self.some_audit(data)
        if self.known[audit_id].status not in TERMINAL:
            with pytest.raises(AuditNotTerminal):
                self.ledger.delete(audit_id)
            return
        self.ledger.delete(audit_id)
        claims = self.known.pop(audit_id).claims
        self.keys = {key: one for key, one in self.keys.items() if one != audit_id}
        with pytest.raises(AuditNotFound):
            self.ledger.get(audit_id)
        for claim in claims:
            with pytest.raises(LeaseLost):
                self.ledger.heartbeat(claim)

    @invariant()
    def the_ledger_is_as_expected(self):
        listed = self.ledger.list(page_size=200).audits
        assert {record.id for record in listed} == set(self.known)
        for record in listed:
            expected = self.known[record.id]
            assert (record.status, record.verdict) == (expected.status, expected.verdict)
            assert record.attempt == len(expected.claims)
            assert (record.failure is not None) == (record.status == "failed")
            assert (record.finished_at is not None) == (record.status in TERMINAL)
            assert record.version >= expected.version
            expected.version = record.version

    @invariant()
    def reports_belong_to_successes(self):
        with self.ledger._database.reading() as connection:
            stored = set(connection.execute(select(reports.c.audit_id)).scalars())
            count = connection.execute(select(func.count()).select_from(reports)).scalar_one()
        assert count == len(stored)
        assert stored == {audit_id for audit_id, one in self.known.items() if one.status == "succeeded"}

    def teardown(self):
        for audit_id, expected in self.known.items():
            history = self.ledger.events(audit_id)
            assert [event.sequence for event in history] == list(range(1, len(history) + 1))
            ends = [event for event in history if event.status in TERMINAL]
            assert len(ends) == (expected.status in TERMINAL)
            assert not ends or ends == history[-1:]
            holders = 0
            for claim in expected.claims:
                try:
                    self.ledger.heartbeat(claim)
                    holders += 1
                except LeaseLost:
                    pass
            assert holders == (expected.status in ("running", "cancelling"))
            if expected.status == "succeeded":
                assert self.ledger.report(audit_id).verdict == expected.verdict
            else:
                with pytest.raises(ReportNotReady):
                    self.ledger.report(audit_id)


def test_random_histories_keep_the_promises(url, open_ledger, spec, make_report, make_due):
    parts = {"spec": spec, "make_report": staticmethod(make_report), "make_due": staticmethod(make_due)}
    # Nothing runs out by itself here: time passes by the rule `expire` alone.
    ledger = open_ledger(url, lease_s=3_600, max_attempts=MAX_ATTEMPTS, requeue_after_s=3_600)
    machine = type("HistoriesHere", (Histories,), parts | {"ledger": ledger})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
