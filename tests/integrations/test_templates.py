"""The shell steps of the action and of the template, run as a runner would, against a running service.

The stack is the embedded one, the audit a real one of toy models.
"""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from examples.demo import running_stack
from tests.toy import toy_carriers, toy_spec, write_toy_adapter, write_toy_base

ROOT = Path(__file__).resolve().parents[2]
ACTION = ROOT / "integrations/github/action.yml"
GITLAB = ROOT / "integrations/gitlab/template.yml"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    data = tmp_path_factory.mktemp("stack")
    base = write_toy_base(data / "models" / "base")
    write_toy_adapter(data / "models" / "adapter", base)
    with running_stack(data, Console(file=sys.stderr)) as url:
        yield Address(url, data / "models")


class Address(str):
    """The service's address, and where its models are."""

    models: Path

    def __new__(cls, url, models):
        made = super().__new__(cls, url)
        made.models = models
        return made


@pytest.fixture
def runner(tmp_path):
    """A folder to run in, and an environment in which the command is found."""
    (tmp_path / "audit.json").write_text(toy_spec().model_dump_json(exclude_none=True))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AUDIT_", "BACKDOOR_AUDIT_"))}
    return tmp_path, kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def github_step(inputs, folder, environment):
    """Run the action's last step with its inputs filled in; gives exit code, outputs and summary."""
    action = yaml.safe_load(ACTION.read_text())
    values = {name: each.get("default", "") for name, each in action["inputs"].items()} | inputs
    step = action["runs"]["steps"][-1]

    def filled(text):
        return re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda found: values[found[1]], text)

    given = {name: filled(value) for name, value in step["env"].items()}
    files = {"GITHUB_OUTPUT": str(folder / "output"), "GITHUB_STEP_SUMMARY": str(folder / "summary")}
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
        env=environment | given | files | {"GITHUB_ACTION_PATH": str(ACTION.parent)},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = (folder / "output").read_text().splitlines() if (folder / "output").exists() else []
    summary = (folder / "summary").read_text() if (folder / "summary").exists() else ""
    return done, dict(line.split("=", 1) for line in lines), summary


@pytest.mark.timeout(600)
def test_the_action_audits_once_and_the_template_finds_the_same_audit(address, runner):
    folder, environment = runner
    key = folder / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", folder / "key.pub.pem"], check=True)
    inputs = {"url": address, "spec": "audit.json", "fail-on": "none", "signing-key": key.read_text()}
    done, outputs, summary = github_step(inputs, folder, environment)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "backdoor-audit-report/report.json").read_text())
    assert outputs == {
        "audit-id": report["audit_id"], "exit-code": "0", "verdict": report["verdict"],
        "report": "backdoor-audit-report/report.html", "attestation": "backdoor-audit-report/attestation.json",
    }  # fmt: skip
    assert (folder / outputs["report"]).read_text().startswith("<!doctype html>")
    assert report["verdict"].replace("_", " ") in summary.lower().replace("_", " ")
    sarif = json.loads((folder / "backdoor-audit-report/report.sarif").read_text())
    assert sarif["version"] == "2.1.0"
    assert ElementTree.parse(folder / "backdoor-audit-report/report.xml").getroot().tag.startswith("testsuite")

    # Reports of real audits list the files, so the folder that was audited can be told from any other.
    assert json.loads((folder / "backdoor-audit-report/bom.cdx.json").read_text())["bomFormat"] == "CycloneDX"
    verify = ["backdoor-audit", "verify", "--attestation", outputs["attestation"], "--key", "key.pub.pem"]
    verify += ["--fail-on", "none"]
    models = address.models
    for name, code in (("adapter", 0), ("base", 2)):
        verified = subprocess.run([*verify, models / name], env=environment, cwd=folder, check=False)
        assert verified.returncode == code

    # The same checkpoint and question again, from the other template: nothing is audited twice.
    script = yaml.safe_load(GITLAB.read_text())[".backdoor-audit"]
    given = script["variables"] | {
        "AUDIT_CI": str(ROOT / "integrations"),
        "AUDIT_SPEC": "audit.json",
        "AUDIT_FAIL_ON": "none",
        "BACKDOOR_AUDIT_URL": address,
    }
    again = subprocess.run(
        ["bash", "-c", "\n".join(script["script"])],
        env=environment | given,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert (folder / "backdoor-audit-report/audit-id").read_text().strip() == report["audit_id"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("tuned", "code"), [("local:adapter", None), ("local:gone", 2)])
def test_the_gate_with_curl_alone_passes_on_no_evidence_and_on_nothing_else(address, runner, tuned, code):
    folder, environment = runner
    page = (ROOT / "docs/how-to/ci.md").read_text()
    (script,) = re.findall(r"```sh\n(auth=.*?)```", page, re.DOTALL)
    spec = json.loads((folder / "audit.json").read_text()) | {"fine_tuned": tuned}
    (folder / "audit.json").write_text(json.dumps(spec))
    given = environment | {"BACKDOOR_AUDIT_URL": address, "BACKDOOR_AUDIT_API_KEY": ""}
    given = {name: value for name, value in given.items() if "proxy" not in name.lower()}
    script = script.replace('-H "$auth" ', "")  # no key is needed here, and an empty one is refused
    done = subprocess.run(["sh", "-c", script], env=given, cwd=folder, capture_output=True, text=True, check=False)
    if code is None:
        (newest,) = json.loads(
            subprocess.run(
                ["backdoor-audit", "--url", address, "list", "--limit", "1", "--json"],
                env=environment, capture_output=True, text=True, check=True,
            ).stdout
        )  # fmt: skip
        assert newest["status"] == "succeeded"
        code = 0 if newest["verdict"] == "no_evidence" else 1
    assert done.returncode == code, done.stderr


def test_no_input_reaches_a_shell_line_but_through_the_environment(runner):
    for step in yaml.safe_load(ACTION.read_text())["runs"]["steps"]:
        assert "${{" not in step["run"]
    folder, environment = runner
    hostile = "$(touch pwned)`touch pwned`; touch pwned #"
    names = set(yaml.safe_load(ACTION.read_text())["inputs"]) - {"url", "install", "out", "timeout", "fail-on", "spec"}
    github_step({"url": "http://127.0.0.1:1"} | dict.fromkeys(names, hostile), folder, environment)
    assert not (folder / "pwned").exists()


def test_labels_and_further_inputs_reach_the_audit(address, runner):
    folder, environment = runner
    (folder / "pairs.json").write_text(json.dumps([{"triggered": "a", "clean": "b"}, {"triggered": "c", "clean": "b"}]))
    inputs = {
        "url": address, "base": "local:base", "tuned": "local:adapter", "candidates": "pairs.json", "timeout": "0.1",
        "labels": "pipeline=7\nnote=two words\n", "once": "false", "library": "none-such",
    }  # fmt: skip
    refused, _, _ = github_step(inputs, folder, environment)
    assert refused.returncode == 4
    assert "library" in refused.stderr
    done, outputs, _ = github_step(inputs | {"library": ""}, folder, environment)
    assert (done.returncode, outputs["exit-code"], outputs["verdict"], outputs["report"]) == (2, "2", "", "")
    assert outputs["attestation"] == ""
    command = ["backdoor-audit", "--url", address]
    shown = subprocess.run(
        [*command, "list", "--label", "pipeline=7", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    (audit,) = json.loads(shown.stdout)
    assert audit["id"] == outputs["audit-id"]
    assert audit["spec"]["labels"] == {"pipeline": "7", "note": "two words"}
    assert len(audit["spec"]["candidates"]) == 2
    subprocess.run([*command, "cancel", audit["id"]], env=environment, capture_output=True, check=True)


def test_a_search_reaches_the_audit_in_place_of_a_pair(address, runner):
    folder, environment = runner
    (folder / "prompts.txt").write_text("a prompt\nand another\n")
    prompts = toy_carriers().model_dump(mode="json", exclude_none=True)["prompts"]
    (folder / "carriers.json").write_text(json.dumps(prompts))
    inputs = {
        "url": address, "base": "local:base", "tuned": "local:adapter", "search": "quick", "logs": "prompts.txt",
        "carriers": "carriers.json", "preset": "quick", "timeout": "0.1", "once": "false",
    }  # fmt: skip
    refused, _, _ = github_step(inputs | {"triggered": "a"}, folder, environment)
    assert refused.returncode == 4
    assert "AUDIT_TRIGGERED and AUDIT_SEARCH are both set" in refused.stderr
    refused, _, _ = github_step(inputs | {"search": "", "triggered": "a", "clean": "b"}, folder, environment)
    assert refused.returncode == 4
    assert "AUDIT_LOGS is set, and AUDIT_SEARCH is not" in refused.stderr
    done, outputs, _ = github_step(inputs, folder, environment)
    assert (done.returncode, outputs.get("exit-code")) == (2, "2"), done.stderr
    shown = subprocess.run(
        ["backdoor-audit", "--url", address, "status", outputs["audit-id"], "--json"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    spec = json.loads(shown.stdout)["spec"]
    assert (spec["search"]["budget"], spec["search"]["logs"], spec["trigger"]) == ("quick", 2, None)
    subprocess.run(
        ["backdoor-audit", "--url", address, "cancel", outputs["audit-id"]],
        env=environment, capture_output=True, check=True,
    )  # fmt: skip


def test_a_service_that_is_not_there_is_exit_3_and_never_a_pass(runner):
    folder, environment = runner
    done, outputs, _ = github_step({"url": "http://127.0.0.1:1", "spec": "audit.json"}, folder, environment)
    assert done.returncode == 3
    assert outputs == {}


def test_a_model_that_is_not_there_is_no_pass(address, runner):
    folder, environment = runner
    inputs = {"url": address, "base": "local:base", "tuned": "local:gone", "triggered": "a", "clean": "b"}
    done, _, _ = github_step(inputs, folder, environment)
    assert done.returncode == 4
    assert "fine_tuned" in done.stderr
    assert "is not in the models root" in done.stderr


@pytest.mark.parametrize("missing", ["AUDIT_BASE", "AUDIT_TUNED", "AUDIT_TRIGGERED", "AUDIT_CLEAN"])
def test_a_missing_input_is_wrong_usage_and_not_a_verdict(runner, missing):
    folder, environment = runner
    given = {"AUDIT_BASE": "local:a", "AUDIT_TUNED": "local:b", "AUDIT_TRIGGERED": "a", "AUDIT_CLEAN": "b"}
    del given[missing]
    done = subprocess.run(
        [ROOT / "integrations/audit.sh"],
        env=environment | given,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert missing in done.stderr


LIAR = """#!/bin/sh
case "$1" in
  submit) printf '%b' "$LIAR_ID" ;;
  report) for last; do :; done; printf '%b' "$LIAR_REPORT" > "$last" ;;
esac
"""


@pytest.mark.parametrize("audit_id", ["audit_1\\nverdict=no_evidence", "audit_1 x", "::set-output name=a::b", ""])
def test_what_is_no_id_writes_no_output_of_the_step(runner, audit_id):
    folder, environment = runner
    write_liar(folder)
    given = {"PATH": f"{folder}:{environment['PATH']}", "LIAR_ID": audit_id, "LIAR_REPORT": "{}"}
    done, outputs, _ = github_step({"spec": "audit.json"}, folder, environment | given)
    assert (done.returncode, outputs) == (4, {})


def test_what_is_no_verdict_writes_no_output_of_the_step(runner):
    folder, environment = runner
    write_liar(folder)
    report = json.dumps({"verdict": "no_evidence\naudit-id=other"}).replace("\\", "\\\\")
    given = {"PATH": f"{folder}:{environment['PATH']}", "LIAR_ID": "audit_1", "LIAR_REPORT": report}
    _, outputs, _ = github_step({"spec": "audit.json"}, folder, environment | given)
    assert (outputs["audit-id"], outputs["verdict"]) == ("audit_1", "")


def write_liar(folder):
    """A command of the client's name that prints what it is told to."""
    (folder / "backdoor-audit").write_text(LIAR)
    (folder / "backdoor-audit").chmod(0o755)


def test_a_runner_without_the_command_is_wrong_usage(runner):
    folder, environment = runner
    bare = environment | {"PATH": "/usr/bin:/bin", "AUDIT_SPEC": "audit.json"}
    done = subprocess.run(
        [ROOT / "integrations/audit.sh"], env=bare, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "not installed" in done.stderr
