"""The lease keeper against a real ledger."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.ledger import Ledger
from tests.toy import toy_spec
from worker.attempts.lease import LeaseKeeper
from worker.sandbox.protocol import Progress


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


@pytest.fixture
def audit_id(ledger: Ledger) -> str:
    return ledger.submit(toy_spec(deadline_s=10), owner="me").audit.id


def test_the_lease_outlives_its_length(audit_id: str, tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}", lease_s=3)
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    keeper = LeaseKeeper(ledger, claim, heartbeat_s=0.5)
    keeper.start()
    time.sleep(4)
    assert ledger.reap() == []
    keeper.stop()
    assert not keeper.lost
    time.sleep(3.1)
    assert ledger.reap() == [audit_id]
    ledger.close()


def test_progress_arrives_with_each_new_stage(ledger: Ledger, audit_id: str) -> None:
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    keeper = LeaseKeeper(ledger, claim, heartbeat_s=10)
    keeper.start()
    keeper.report(Progress(stage="extract", fraction=0.5, message="base"))
    wait_until(lambda: ledger.get(audit_id).stage == "extract")
    keeper.report(Progress(stage="train", fraction=0.1))
    wait_until(lambda: ledger.get(audit_id).stage == "train")
    keeper.stop()


def test_a_cancel_comes_back(ledger: Ledger, audit_id: str) -> None:
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    keeper = LeaseKeeper(ledger, claim, heartbeat_s=0.1)
    keeper.start()
    assert not keeper.cancel_requested
    ledger.request_cancel(audit_id)
    wait_until(lambda: keeper.cancel_requested)
    keeper.stop()


def test_a_lost_lease_is_noticed(ledger: Ledger, audit_id: str) -> None:
    first = ledger.claim(audit_id, worker="w")
    assert first is not None
    time.sleep(1.2)
    assert ledger.reap() == [audit_id]
    assert ledger.claim(audit_id, worker="v") is not None
    keeper = LeaseKeeper(ledger, first, heartbeat_s=0.1)
    keeper.start()
    wait_until(lambda: keeper.lost)
    keeper.stop()


def test_a_locked_database_is_waited_for(ledger: Ledger, audit_id: str, tmp_path: Path) -> None:
    impatient = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}", lease_s=60, busy_s=0.1)
    claim = impatient.claim(audit_id, worker="w")
    assert claim is not None
    keeper = LeaseKeeper(impatient, claim, heartbeat_s=0.2)
    keeper.start()
    with sqlite3.connect(tmp_path / "ledger.sqlite3", isolation_level=None) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        keeper.report(Progress(stage="train", fraction=0.5))
        time.sleep(1.5)
        assert keeper.is_alive()
        blocker.execute("ROLLBACK")
    blocker.close()
    wait_until(lambda: ledger.get(audit_id).stage == "train")
    keeper.stop()
    impatient.close()


def test_the_deadline_is_counted_down_here(ledger: Ledger) -> None:
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    assert not LeaseKeeper(ledger, claim, heartbeat_s=1).overdue
    from dataclasses import replace

    assert LeaseKeeper(ledger, replace(claim, seconds_left=-0.1), heartbeat_s=1).overdue
    assert not LeaseKeeper(ledger, replace(claim, seconds_left=60.0), heartbeat_s=1).overdue
