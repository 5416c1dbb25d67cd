"""The clock of the machine, and clocks that a ledger is given."""

import time

import pytest

from jobs.clock import BootClock
from jobs.webhooks.records import AttemptRecord


def test_it_ticks_and_names_its_boot():
    clock = BootClock()
    first = clock.read(None)
    time.sleep(0.01)
    second = clock.read(None)
    assert second.tick - first.tick >= 0.01
    assert first.epoch == second.epoch


def test_where_there_is_no_boot_id_the_wall_clock_serves(tmp_path):
    reading = BootClock(tmp_path / "absent").read(None)
    assert reading.epoch == "wall"
    assert reading.tick == reading.at.timestamp()


def test_where_there_is_no_boot_time_clock_the_wall_clock_serves(monkeypatch, tmp_path):
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("this-boot\n")
    assert BootClock(boot_id).read(None).epoch == "this-boot"
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    reading = BootClock(boot_id).read(None)
    assert reading.epoch == "wall"
    assert reading.tick == pytest.approx(time.time(), abs=5)


def test_due_columns():
    now = BootClock().read(None)
    assert now.due_in(5) == {"due_tick": now.tick + 5, "due_epoch": now.epoch}


class TestOfALedger:
    """A ledger measures everything with the clock that it is given, on both databases."""

    @pytest.fixture
    def ledger(self, url, open_ledger, clock):
        return open_ledger(url, lease_s=60, requeue_after_s=100, max_attempts=2, clock=clock)

    def test_now(self, ledger, clock):
        before = ledger.now()
        clock.advance(90)
        assert (ledger.now() - before).total_seconds() == pytest.approx(90)

    def test_leases_and_waits_in_the_queue(self, ledger, spec, clock):
        audit_id = ledger.submit(spec, owner="ann").audit.id
        clock.advance(99)
        assert ledger.reap() == []
        clock.advance(1)
        assert ledger.reap() == [audit_id]
        claim = ledger.claim(audit_id, worker="w1")
        clock.advance(59)
        ledger.heartbeat(claim)
        clock.advance(59)
        assert ledger.reap() == []
        clock.advance(1)
        assert ledger.reap() == [audit_id]
        ledger.claim(audit_id, worker="w1")
        clock.advance(60)
        assert ledger.reap() == []
        assert ledger.get(audit_id).failure.code == "worker_lost"

    def test_deadlines(self, ledger, make_spec, clock):
        audit_id = ledger.submit(make_spec(deadline_s=100), owner="ann").audit.id
        clock.advance(500)
        claim = ledger.claim(audit_id, worker="w1")
        assert claim.seconds_left == 100, "they count from the first claim"
        clock.advance(40)
        assert ledger.heartbeat(claim).seconds_left == 60
        clock.advance(60)
        ledger.reap()
        assert ledger.get(audit_id).failure.code == "deadline_exceeded"

    def test_ends_of_keys(self, ledger, clock):
        _, token = ledger.keys.create(owner="ann", name="laptop", scopes=["audits:read"], lifetime_s=10)
        clock.advance(9)
        assert ledger.keys.check(token) is not None
        clock.advance(1)
        assert ledger.keys.check(token) is None
        assert not ledger.keys.any_live()

    def test_retries_and_retention_of_messages(self, ledger, clock):
        hook = ledger.webhooks.create(owner="ann", url="https://example.com/", stored_secret="whsec_x")
        ledger.webhooks.test(hook.id, owner="ann")
        (message,) = ledger.webhooks.take(limit=1, lease_s=30)
        clock.advance(29)
        assert ledger.webhooks.take(limit=1, lease_s=30) == []
        clock.advance(1)
        (message,) = ledger.webhooks.take(limit=1, lease_s=30)
        attempt = AttemptRecord(at="now", status=500, error="status", seconds=0.1)
        ledger.webhooks.settle(message.id, attempt, delivered=False, retry_in_s=300)
        clock.advance(299)
        assert ledger.webhooks.take(limit=1, lease_s=30) == []
        clock.advance(1)
        (message,) = ledger.webhooks.take(limit=1, lease_s=30)
        ledger.webhooks.settle(message.id, attempt, delivered=True, retry_in_s=None)
        assert ledger.webhooks.prune(older_than_s=1_000) == 0
        clock.advance(1_000)
        assert ledger.webhooks.prune(older_than_s=1_000) == 1
