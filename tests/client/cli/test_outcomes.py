import inspect

import pytest

from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.outcomes import exit_for, known_fail_on, noting, outcome_of, what_a_pass_leaves_open
from backdoor_audit.client import errors
from backdoor_audit.client.errors import ClientError, Problem
from backdoor_audit.client.responses import Audit
from backdoor_audit.contract.spec.audit_spec import MAX_LABELS, AuditSpec, TriggerSpec


def _audit(status="succeeded", **more):
    return Audit(id="audit_1", status=status, **more)


@pytest.mark.parametrize(
    ("verdict", "fail_on", "code"),
    [
        ("flagged", "flagged", 1),
        ("flagged", "review", 1),
        ("flagged", "none", 0),
        ("review", "flagged", 0),
        ("review", "review", 1),
        ("review", "none", 0),
        ("no_evidence", "flagged", 0),
        ("no_evidence", "review", 0),
        ("invalid", "flagged", 2),
        ("invalid", "none", 2),
    ],
)
def test_verdicts(make_report, verdict, fail_on, code):
    assert outcome_of(_audit(verdict=verdict), make_report(verdict), fail_on).code == code


@pytest.mark.parametrize("status", ["failed", "cancelled", "cancelling", "queued", "something_new"])
@pytest.mark.parametrize("fail_on", ["flagged", "none"])
def test_only_a_success_passes(make_report, status, fail_on):
    assert outcome_of(_audit(status), make_report("no_evidence"), fail_on).code == 2


def test_a_missing_or_contradicting_report_does_not_pass(make_report):
    assert outcome_of(_audit(verdict="no_evidence"), None, "flagged").code == 2
    assert outcome_of(_audit(verdict="flagged"), make_report("no_evidence"), "flagged").code == 2
    assert outcome_of(_audit(verdict="a_new_word"), make_report("no_evidence"), "none").code == 2


def test_an_audit_of_other_weights_than_were_pushed_does_not_pass(make_report):
    audit = _audit(verdict="no_evidence", spec={"base_model": "store:base", "fine_tuned": "store:tuned"})
    report = make_report("no_evidence")
    pushed = {"store:base": report.provenance.base_digest, "store:tuned": report.provenance.tuned_digest}
    assert outcome_of(audit, report, "flagged", pushed).code == 0
    for reference in pushed:
        outcome = outcome_of(audit, report, "none", pushed | {reference: "sha256:ff"})
        assert outcome.code == 2
        assert reference in outcome.sentence


def test_what_was_pushed_is_compared_by_a_later_command_too(make_report):
    report = make_report("no_evidence")
    spec = AuditSpec(
        base_model="local:base",
        fine_tuned="store:tuned",
        trigger=TriggerSpec(triggered="a", clean="b"),
        labels={"build": "7"},
    )
    for digest, code in ((report.provenance.tuned_digest, 0), ("sha256:ff", 2)):
        filed = noting(spec, {"store:tuned": digest, "store:other": "sha256:00"})
        assert filed.labels == {"build": "7", "pushed/fine_tuned": digest}
        audit = _audit(verdict="no_evidence", spec=filed.model_dump(mode="json"))
        assert outcome_of(audit, report, "flagged").code == code


def test_a_spec_without_room_for_a_label_stays_as_it_is():
    labels = {f"l{place}": "x" for place in range(MAX_LABELS)}
    trigger = TriggerSpec(triggered="a", clean="b")
    spec = AuditSpec(base_model="local:base", fine_tuned="store:tuned", trigger=trigger, labels=labels)
    assert noting(spec, {"store:tuned": "sha256:00"}) is spec
    assert AuditSpec.model_validate(noting(spec.model_copy(update={"labels": {}}), {"store:tuned": "sha256:00"}))


def test_a_failure_says_why():
    audit = _audit("failed", failure={"code": "model_not_found", "message": "no such folder"})
    assert "model_not_found: no such folder" in outcome_of(audit, None, "flagged").sentence


def test_a_pass_names_every_gate_left_open_and_the_smallest_effect(make_report):
    gates = make_report().gates.model_dump()
    gates["causal"] |= {"state": "not_assessed", "reason": "behaviour failed"}
    report = make_report("no_evidence", gates=gates, not_assessed=["causal", "calibrated", "crosscoder: not asked for"])
    lines = what_a_pass_leaves_open(report)
    assert lines[:3] == [
        "Not assessed: causal (behaviour failed)",
        "Not assessed: calibrated (no benign library for this base)",
        "Not assessed: crosscoder: not asked for",
    ]
    assert "0.1 nats" in lines[3]
    assert len(lines) == 4


def test_an_unknown_smallest_effect_is_said(make_report):
    lines = what_a_pass_leaves_open(make_report("no_evidence", smallest_effect_nats=None))
    assert "too few other strings" in lines[-1]


def test_unknown_fail_on_is_the_strict_default():
    assert known_fail_on("flagged") == "flagged"
    assert known_fail_on("none") == "none"
    assert known_fail_on("whatever") == "review"
    assert known_fail_on(None) == "review"


def _every_error():
    return [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, ClientError)]


@pytest.mark.parametrize("kind", _every_error(), ids=lambda kind: kind.__name__)
def test_no_error_passes_or_looks_like_a_verdict_and_each_is_listed(kind):
    error = kind(500, Problem(status=500)) if issubclass(kind, errors.AnswerError) else kind("x")
    assert exit_for(error) in (Exit.NOT_DONE, Exit.UNREACHABLE, Exit.USAGE)
    assert kind.__name__ in errors.__all__
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("status", "code"), [(400, 4), (401, 4), (404, 4), (409, 2), (413, 4), (422, 4), (429, 3), (500, 3), (503, 3)]
)
def test_answers(status, code):
    assert exit_for(errors.error_for(status, b"")) == code


def test_a_problem_document_is_read_and_anything_else_survives():
    body = (
        b'{"title": "Invalid", "status": 422, "detail": "2 faults", "errors": [{"pointer": "/preset", "detail": "no"}]}'
    )
    assert errors.error_for(422, body).message == "2 faults\n/preset: no"
    assert errors.error_for(502, b"<html>").message == "HTTP status 502"
