"""The Python of ``docs/how-to/python.md``, run as it stands there against the real API; the test is the worker."""

import subprocess
import sys
import time

import pytest

from backdoor_audit.client.blocking import AuditClient
from tests.docs.commands import ADDRESSES, blocks

PYTHON = [block for block in blocks() if block.language == "python" and block.page == "docs/how-to/python.md"]


def run_with_a_worker(service, body, report):
    """Run the code, and end the audits that it files with this report; gives what it printed."""
    for address in ADDRESSES:
        body = body.replace(address, service.url)
    running = subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE, text=True)
    with AuditClient(service.url) as client:
        while running.poll() is None:
            for audit in client.audits(status="queued") if report else ():
                if audit.spec["fine_tuned"].endswith("sql-year-benign"):
                    service.finish(audit.id, report)
            time.sleep(0.2)
    printed, _ = running.communicate()
    assert running.returncode == 0
    return printed


def test_there_are_two():
    assert [("AuditClient(" in block.body, "AsyncAuditClient(" in block.body) for block in PYTHON] == [
        (True, False),
        (True, True),
    ]


def test_the_blocking_client(service, make_report):
    printed = run_with_a_worker(service, PYTHON[0].body, make_report("flagged"))
    assert printed.splitlines()[0].split() == ["flagged", "19.2", "0.1"]
    assert printed.splitlines()[1].startswith("diff_sae/17/1/1234 ")


def test_the_asynchronous_client(service):
    assert run_with_a_worker(service, PYTHON[1].body, None) == "['cancelled', 'cancelled']\n"


def test_a_failure_of_the_code_is_seen(service):
    with pytest.raises(AssertionError):
        run_with_a_worker(service, "raise SystemExit(1)", None)
