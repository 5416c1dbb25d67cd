"""Standard output of any encoding: nothing ends the command, and documents still mean the same."""

import html
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from backdoor_audit.client.blocking import AuditClient

ROOT = Path(__file__).resolve().parents[3]
SUMMARY = "Antwortet anders unter «2024»: naïve – 漢字 🙂"
SPEC = {
    "base_model": "local:base", "fine_tuned": "local:tuned", "trigger": {"triggered": "é", "clean": "漢"},
    "labels": {"team": "grün"},
}  # fmt: skip


@pytest.fixture(scope="module")
def reported(service):
    with AuditClient(service.url) as client:
        return client.submit(SPEC).id


@pytest.fixture
def printed(service, reported, make_report):
    if service.ledger.get(reported).status == "queued":
        service.finish(reported, make_report("flagged", summary=SUMMARY))

    def call(encoding, *arguments):
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}", "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0",
            "BACKDOOR_AUDIT_URL": service.url,
        }  # fmt: skip
        command = [sys.executable, "-m", "backdoor_audit.cli", *arguments]
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=60, check=False)
        assert ended.returncode in (0, 1), ended.stderr.decode(errors="replace")
        assert b"Traceback" not in ended.stderr
        return ended.stdout

    return call


def test_text_is_written_with_escapes(printed, reported):
    encoding = "ascii"
    text = printed(encoding, "report", reported).decode(encoding)
    assert "FLAGGED" in text
    assert "\\u6f22" in text
    assert "\\u6f22" in printed(encoding, "report", reported, "--format", "markdown").decode(encoding)


def test_documents_mean_the_same(printed, reported):
    encoding = "cp1252"  # has some of the characters, so that a document's own encoding must not be mixed up with it
    report = json.loads(printed(encoding, "report", reported, "--format", "json").decode("utf-8"))
    assert report["summary"] == SUMMARY
    state = json.loads(printed(encoding, "status", reported, "--json").decode("utf-8"))
    assert state["audit"]["spec"]["labels"] == {"team": "grün"}
    assert SUMMARY in html.unescape(printed(encoding, "report", reported, "--format", "html").decode("utf-8"))
    case = ElementTree.fromstring(printed(encoding, "report", reported, "--format", "junit"))
    assert "漢字 🙂" in ElementTree.tostring(case, "unicode")
    assert json.loads(printed(encoding, "report", reported, "--format", "sarif").decode("utf-8"))
