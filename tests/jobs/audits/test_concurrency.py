"""Real threads and processes on one ledger."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from backdoor_audit.contract.lifecycle import TERMINAL, Failure
from jobs.errors import IdempotencyConflict, LeaseLost

THREADS = 8


def at_once(*calls):
    """Run the calls in threads that start together; returns their answers, exceptions among them."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.mark.parametrize("own_connections", [False, True])
def test_of_eight_claimers_one_wins(url, open_ledger, spec, own_connections):
    ledger = open_ledger(url)
    ledgers = [open_ledger(url) if own_connections else ledger for _ in range(THREADS)]
    for _ in range(3):
        audit_id = ledger.submit(spec, owner="ann").audit.id
        claims = at_once(*(partial(one.claim, audit_id, worker="w") for one in ledgers))
        assert [claim.attempt for claim in claims if claim is not None] == [1]
        assert ledger.get(audit_id).attempt == 1


def test_one_key_from_eight_threads_is_one_audit(ledger, spec):
    answers = at_once(*[lambda: ledger.submit(spec, owner="ann", idempotency_key="k")] * THREADS)
    assert len({answer.audit.id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    assert len(ledger.list().audits) == 1


def test_one_key_with_eight_bodies_is_one_audit_and_seven_conflicts(ledger, make_spec):
    bodies = [make_spec(seed=seed) for seed in range(THREADS)]
    answers = at_once(*(lambda body=body: ledger.submit(body, owner="ann", idempotency_key="k") for body in bodies))
    assert sum(isinstance(answer, IdempotencyConflict) for answer in answers) == THREADS - 1
    assert len(ledger.list().audits) == 1


def test_each_lost_audit_is_reaped_once(ledger, spec, make_due):
    ids = [ledger.submit(spec, owner="ann").audit.id for _ in range(20)]
    for audit_id in ids[:10]:
        ledger.claim(audit_id, worker="w1")
    for audit_id in ids:
        make_due(ledger, audit_id)
    reaped = [audit_id for answer in at_once(*[ledger.reap] * 4) for audit_id in answer]
    # A reaper may leave a row that its neighbour is looking at; nobody's is left in the end.
    reaped += ledger.reap()
    assert sorted(reaped) == sorted(ids)
    assert ledger.counts().reaped_total == 10


@pytest.mark.parametrize("round_", range(3))
def test_cancel_racing_completion_ends_once(ledger, spec, make_report, round_):
    audit_id = ledger.submit(spec, owner="ann").audit.id
    claim = ledger.claim(audit_id, worker="w1")
    at_once(
        lambda: ledger.request_cancel(audit_id),
        lambda: ledger.succeed(claim, make_report(audit_id)),
        lambda: ledger.request_cancel(audit_id),
        lambda: ledger.heartbeat(claim),
    )
    record = ledger.get(audit_id)
    assert record.status in ("succeeded", "cancelled")
    assert (record.status == "succeeded") == (record.verdict is not None)
    ended = [event for event in ledger.events(audit_id) if event.status in TERMINAL]
    assert len(ended) == 1


def test_of_eight_endings_one_counts(ledger, spec, make_report):
    audit_id = ledger.submit(spec, owner="ann").audit.id
    claim = ledger.claim(audit_id, worker="w1")
    failure = Failure(code="internal", message="x")
    endings = [lambda: ledger.succeed(claim, make_report(audit_id)), lambda: ledger.fail(claim, failure)] * 4
    answers = at_once(*endings)
    assert sum(answer is None for answer in answers) == 1
    assert sum(isinstance(answer, LeaseLost) for answer in answers) == THREADS - 1


def test_a_heartbeat_racing_the_reaper_holds_the_lease_or_loses_it(ledger, spec, make_due):
    for _ in range(5):
        audit_id = ledger.submit(spec, owner="ann").audit.id
        claim = ledger.claim(audit_id, worker="w1")
        make_due(ledger, audit_id)
        beat, reaped = at_once(lambda claim=claim: ledger.heartbeat(claim), ledger.reap)
        if isinstance(beat, LeaseLost):
            assert reaped == [audit_id]
        else:
            assert reaped == []
            assert ledger.get(audit_id).status == "running"


WORKER = """
import json, sys
from jobs.ledger import Ledger
ledger = Ledger(sys.argv[1])
won = []
for line in sys.stdin:
    claim = ledger.claim(line.strip(), worker=sys.argv[2])
    if claim is not None:
        won.append(claim.audit_id)
        ledger.heartbeat(claim)
        ledger.progress(claim, "extract", 0.5)
        ledger.cancelled(claim)
ledger.close()
json.dump(won, sys.stderr)
"""


def test_processes_share_the_work_without_overlap(url, ledger, spec):
    ids = [ledger.submit(spec, owner="ann").audit.id for _ in range(20)]
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, url, f"w{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    won = []
    with ThreadPoolExecutor(4) as pool:
        for _, errors in pool.map(lambda process: process.communicate("\n".join(ids), timeout=120), started):
            won += json.loads(errors)
    assert sorted(won) == sorted(ids)
    assert all(process.returncode == 0 for process in started)
    assert ledger.counts().by_status["cancelled"] == 20
