"""A process in a sandbox's place that says what it likes: the worker decides, in time, and whatever it is told."""

import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from backdoor_audit.contract.lifecycle import STAGES, Failure
from jobs.ledger import Ledger
from tests.toy import toy_spec
from worker.attempts.artifacts import MAX_REPORT_BYTES
from worker.attempts.attempt import Attempt
from worker.attempts.context import WorkerContext
from worker.attempts.endings import End, Ending
from worker.sandbox import process

Rogue = Callable[..., Ending]

BEFORE = """
import json, os, sys, time
channel = int(sys.argv[-1])
request = json.loads(sys.stdin.buffer.readline())
def say(*lines):
    rest = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\\n" for line in lines)
    while rest:
        rest = rest[os.write(channel, rest):]
def report(text):
    folder = os.path.join(request["workspace"], "report")
    os.makedirs(folder)
    with open(os.path.join(folder, "report.json"), "w") as file:
        file.write(text)
"""
STOPPED = "the audit's process broke the protocol"
UNREADABLE = "the audit ended without a readable report"


@pytest.fixture
def rogue(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger, make_context: Callable[..., WorkerContext], tmp_path: Path
) -> Rogue:
    """How an attempt ends whose sandbox does this; cancelled or not after three seconds."""

    def run(code: str, *, cancel: bool = False) -> Ending:
        script = tmp_path / "rogue"
        script.write_text(f"#!{sys.executable}\n{BEFORE}{code}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(process.sys, "executable", str(script))
        context = make_context(lease_s=6, heartbeat_s=1, interrupt_grace_s=1)
        claim = ledger.claim(ledger.submit(toy_spec(), owner="me").audit.id, worker="w")
        assert claim is not None
        timer = threading.Timer(3, ledger.request_cancel, [claim.audit_id])
        if cancel:
            timer.start()
        before = set(psutil.Process().children())
        ending = Attempt(context, claim).run()
        timer.cancel()
        assert set(psutil.Process().children()) <= before
        assert len(ledger.events(claim.audit_id, limit=10_000)) < 100
        return ending

    return run


@pytest.mark.parametrize(
    "code",
    [
        f"while True:\n    for one in {STAGES!r}: say({{'kind': 'progress', 'stage': one, 'fraction': 0}})",
        "while True: say({'kind': 'progress', 'stage': 'train', 'fraction': 0, 'message': 'x' * 1000})",
        'say(b\'{"kind": "fin\')\ntime.sleep(600)',
        "time.sleep(600)",
        "while True: os.write(1, b'x' * 60_000 + b'\\n')",
    ],
    ids=["every stage", "one stage", "half a message", "silence", "prints"],
)
def test_a_cancel_is_heard_whatever_is_said(rogue: Rogue, code: str) -> None:
    began_at = time.monotonic()
    assert rogue(code, cancel=True) is End.CANCELLED
    assert time.monotonic() - began_at < 60


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("say({'kind': 'failed', 'failure': {'code': 'model_not_found', 'message': ''}})", STOPPED),
        ("say({'kind': 'failed', 'failure': {'code': 'worker_lost', 'message': ''}})", STOPPED),
        ('say(b\'{"kind": "progress", "stage": "train", "fraction": 1e999}\\n\')', STOPPED),
        ('say(b\'{"kind": "progress", "stage": "train", "fraction": -0.1}\\n\')', STOPPED),
        ("say({'kind': 'progress', 'stage': 'lunch', 'fraction': 0})", STOPPED),
        ("say({'kind': 'succeeded'})", STOPPED),
        ("say(b'x' * 70_000)\ntime.sleep(600)", STOPPED),
        ("say(b'\\n')", STOPPED),
        ("say({'kind': 'finished'})", UNREADABLE),
        ("say({'kind': 'finished'}, {'kind': 'stopped', 'reason': 'cancel'}, {'kind': 'finished'})", UNREADABLE),
        ("report('{}')\nsay({'kind': 'finished'})\ntime.sleep(600)", UNREADABLE),
        (f"report('[' + '1,' * {MAX_REPORT_BYTES // 2 - 2} + '1]')\nsay({{'kind': 'finished'}})", UNREADABLE),
        ("report('{\"decoys\": [' + '{},' * 10_000_000 + '{}]}')\nsay({'kind': 'finished'})", UNREADABLE),
    ],
)
def test_what_is_no_outcome_is_a_failure(rogue: Rogue, code: str, message: str) -> None:
    began_at, before = time.monotonic(), psutil.Process().memory_info().rss
    ending = rogue(code)
    assert isinstance(ending, Failure)
    assert (ending.code, ending.message) == ("internal", message)
    assert time.monotonic() - began_at < 60
    assert psutil.Process().memory_info().rss - before < 500 * 2**20


@pytest.mark.parametrize(
    "code",
    ["os.close(channel)\ntime.sleep(600)", "say(b'{\"kind\"')", "say({'kind': 'stopped', 'reason': 'deadline'})"],
    ids=["closes its pipe", "half a message", "a stop that nobody asked for"],
)
def test_what_goes_without_an_outcome_is_a_lost_attempt(rogue: Rogue, code: str) -> None:
    assert rogue(code) is End.ABANDONED
