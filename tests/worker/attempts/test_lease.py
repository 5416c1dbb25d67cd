"""The lease keeper against a real ledger."""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backdoor_audit.contract.lifecycle import STAGES
from jobs.audits import claims
from jobs.errors import LedgerError
from jobs.ledger import Ledger
from jobs.records import Claim, Heartbeat
from tests.clocks import ManualClock
from tests.toy import toy_spec
from tests.worker.conftest import wait_for
from worker.attempts.lease import LeaseKeeper
from worker.sandbox.protocol import Progress


class WatchedLedger(Ledger):
    """A ledger that counts the heartbeats that it answered, and those that failed."""

    answered = 0
    failed = 0

    def heartbeat(self, claim: Claim) -> Heartbeat:
        try:
            answer = super().heartbeat(claim)
        except LedgerError:
            self.failed += 1
            raise
        self.answered += 1
        return answer


@pytest.fixture
def watched(ledger: Ledger, tmp_path: Path, clock: ManualClock) -> Iterator[WatchedLedger]:
    """Another door to the same database, which gives up on a locked one at once."""
    watched = WatchedLedger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}", lease_s=3, busy_s=0.1, clock=clock)
    yield watched
    watched.close()


@pytest.fixture
def audit_id(ledger: Ledger) -> str:
    return ledger.submit(toy_spec(deadline_s=10), owner="me").audit.id


def claimed(ledger: Ledger, audit_id: str) -> Claim:
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    return claim


def test_the_lease_outlives_its_length(watched: WatchedLedger, audit_id: str, clock: ManualClock) -> None:
    keeper = LeaseKeeper(watched, claimed(watched, audit_id), heartbeat_s=0.02)
    keeper.start()
    for _ in range(3):
        clock.advance(2)
        renewed = watched.answered + 2  # the first of them may have read the clock before it moved
        wait_for(lambda renewed=renewed: watched.answered >= renewed, 30)
        assert watched.reap() == []
    keeper.stop()
    assert not keeper.lost
    clock.advance(3)
    assert watched.reap() == [audit_id]


def test_progress_arrives_with_each_new_stage(ledger: Ledger, audit_id: str) -> None:
    keeper = LeaseKeeper(ledger, claimed(ledger, audit_id), heartbeat_s=10)
    keeper.start()
    keeper.report(Progress(stage="extract", fraction=0.5, message="base"))
    wait_for(lambda: ledger.get(audit_id).stage == "extract", 30)
    keeper.report(Progress(stage="train", fraction=0.1))
    wait_for(lambda: ledger.get(audit_id).stage == "train", 30)
    keeper.stop()


def test_a_cancel_comes_back(ledger: Ledger, audit_id: str) -> None:
    keeper = LeaseKeeper(ledger, claimed(ledger, audit_id), heartbeat_s=0.1)
    keeper.start()
    assert not keeper.cancel_requested
    ledger.request_cancel(audit_id)
    wait_for(lambda: keeper.cancel_requested, 30)
    keeper.stop()


def test_a_lost_lease_is_noticed(ledger: Ledger, audit_id: str, clock: ManualClock) -> None:
    first = claimed(ledger, audit_id)
    clock.advance(1.2)
    assert ledger.reap() == [audit_id]
    claimed(ledger, audit_id)
    keeper = LeaseKeeper(ledger, first, heartbeat_s=0.1)
    keeper.start()
    wait_for(lambda: keeper.lost, 30)
    keeper.stop()


def test_a_locked_database_is_waited_for(ledger: Ledger, watched: WatchedLedger, audit_id: str, tmp_path: Path) -> None:
    keeper = LeaseKeeper(watched, claimed(watched, audit_id), heartbeat_s=0.1)
    with sqlite3.connect(tmp_path / "ledger.sqlite3", isolation_level=None) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        keeper.start()
        keeper.report(Progress(stage="train", fraction=0.5))
        wait_for(lambda: watched.failed > 0, 30)
        assert keeper.is_alive()
        blocker.execute("ROLLBACK")
    blocker.close()
    wait_for(lambda: ledger.get(audit_id).stage == "train", 30)
    keeper.stop()
    assert not keeper.lost


def test_the_deadline_is_counted_down_here(ledger: Ledger) -> None:
    claim = claimed(ledger, ledger.submit(toy_spec(), owner="me").audit.id)
    assert not LeaseKeeper(ledger, claim, heartbeat_s=1).overdue
    assert LeaseKeeper(ledger, replace(claim, seconds_left=-0.1), heartbeat_s=1).overdue
    assert not LeaseKeeper(ledger, replace(claim, seconds_left=60.0), heartbeat_s=1).overdue


def test_a_sandbox_that_changes_its_stage_all_the_time_writes_once_a_second(
    watched: WatchedLedger, audit_id: str
) -> None:
    keeper = LeaseKeeper(watched, claimed(watched, audit_id), heartbeat_s=0.2)
    keeper.start()
    began_at = time.monotonic()
    while time.monotonic() < began_at + 4:
        for stage in STAGES:
            keeper.report(Progress(stage=stage, fraction=0))
        time.sleep(0.001)
    keeper.stop()
    assert not keeper.lost
    assert len(watched.events(audit_id, limit=10_000)) < 4 * len(STAGES) + 10
    assert watched.answered > 5


def test_the_history_of_an_audit_is_bounded(ledger: Ledger, audit_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "MAX_EVENTS", 20)
    claim = claimed(ledger, audit_id)
    for number in range(40):
        ledger.progress(claim, STAGES[number % 2], 0)
    ledger.cancelled(claim)
    events = ledger.events(audit_id, limit=10_000)
    assert len(events) == 21
    assert (events[-1].kind, events[-1].status) == ("status", "cancelled")
