"""What happens to audits that nobody looks after."""

import time
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

import jobs.clock
from backdoor_audit.contract.lifecycle import Failure
from jobs.clock import BootClock


@pytest.fixture
def audit_id(ledger, spec):
    return ledger.submit(spec, owner="ann").audit.id


def test_a_lost_worker_puts_the_audit_back(ledger, audit_id, make_due):
    ledger.claim(audit_id, worker="w1")
    assert ledger.reap() == []
    make_due(ledger, audit_id)
    assert ledger.reap() == [audit_id]
    assert ledger.get(audit_id).status == "queued"
    assert ledger.reap() == []
    assert ledger.counts().reaped_total == 1


def test_after_the_last_attempt_it_fails_as_worker_lost(url, open_ledger, spec, make_due):
    ledger = open_ledger(url, max_attempts=3)
    audit_id = ledger.submit(spec, owner="ann").audit.id
    for returned in ([audit_id], [audit_id], []):
        assert ledger.claim(audit_id, worker="w1") is not None
        make_due(ledger, audit_id)
        assert ledger.reap() == returned
    record = ledger.get(audit_id)
    assert (record.status, record.failure.code, record.attempt) == ("failed", "worker_lost", 3)
    assert record.failure.hint
    assert ledger.counts().reaped_total == 3


def test_what_a_worker_says_is_lost_goes_back_at_once_and_counts(url, open_ledger, spec):
    ledger = open_ledger(url, lease_s=10_000, requeue_after_s=10_000, max_attempts=2)
    audit_id = ledger.submit(spec, owner="ann").audit.id
    ledger.lose(ledger.claim(audit_id, worker="w1"), "the process died")
    assert (ledger.get(audit_id).status, ledger.get(audit_id).message) == ("queued", "the process died")
    assert ledger.reap() == [audit_id]
    assert ledger.reap() == []
    ledger.lose(ledger.claim(audit_id, worker="w1"), "the process died")
    record = ledger.get(audit_id)
    assert (record.status, record.failure.code, record.attempt) == ("failed", "worker_lost", 2)
    assert ledger.counts().reaped_total == 0, "no lease ran out"


def test_a_forgotten_queued_audit_is_handed_out_again(ledger, audit_id, make_due):
    make_due(ledger, audit_id)
    version = ledger.get(audit_id).version
    assert ledger.reap() == [audit_id]
    assert ledger.reap() == []
    assert ledger.get(audit_id).version == version
    assert ledger.counts().reaped_total == 0


def test_an_enqueued_audit_is_left_alone_for_a_while(ledger, audit_id, make_due):
    make_due(ledger, audit_id)
    ledger.mark_enqueued(audit_id)
    assert ledger.reap() == []
    make_due(ledger, audit_id)
    assert ledger.reap() == [audit_id]


def test_marking_does_not_touch_a_lease(url, open_ledger, spec):
    ledger = open_ledger(url, lease_s=1, requeue_after_s=10_000)
    audit_id = ledger.submit(spec, owner="ann").audit.id
    ledger.claim(audit_id, worker="w1")
    before = due_tick(ledger, audit_id)
    ledger.mark_enqueued(audit_id)
    ledger.mark_enqueued("audit_" + "0" * 26)
    assert due_tick(ledger, audit_id) == before


def due_tick(ledger, audit_id):
    from jobs.audits import rows as audits

    with ledger._database.reading() as connection:
        return audits.find(connection, audit_id, owner=None)["due_tick"]


def test_audits_that_have_ended_are_never_due(ledger, audit_id, make_due):
    claim = ledger.claim(audit_id, worker="w1")
    ledger.fail(claim, Failure(code="internal", message="x"))
    make_due(ledger, audit_id)
    assert ledger.reap() == []


def test_many_rows_take_several_passes(ledger, spec, make_due):
    ids = {ledger.submit(spec, owner="ann").audit.id for _ in range(230)}
    for audit_id in ids:
        make_due(ledger, audit_id)
    reaped = ledger.reap()
    assert len(reaped) == 230
    assert set(reaped) == ids


class TestDeadline:
    @pytest.fixture
    def ledger(self, url, open_ledger, clock):
        return open_ledger(url, clock=clock)

    @pytest.fixture
    def audit_id(self, ledger, make_spec):
        return ledger.submit(make_spec(deadline_s=100), owner="ann").audit.id

    def test_it_runs_from_the_first_claim(self, ledger, audit_id, clock):
        clock.advance(500)
        claim = ledger.claim(audit_id, worker="w1")
        started = ledger.get(audit_id).started_at
        assert claim.deadline_at == started + timedelta(seconds=100)
        assert claim.seconds_left == 100
        clock.advance(40)
        assert ledger.heartbeat(claim).seconds_left == 60
        ledger.release(claim)
        clock.advance(10)
        again = ledger.claim(audit_id, worker="w2")
        assert again.seconds_left == 50
        assert again.deadline_at == claim.deadline_at
        assert ledger.get(audit_id).started_at == started

    @pytest.mark.parametrize(("asked", "given"), [(None, 50), (100, 50), (20, 20)])
    def test_no_audit_takes_longer_than_the_operator_gives_any(self, url, open_ledger, clock, make_spec, asked, given):
        bounded = open_ledger(url, clock=clock, max_deadline_s=50)
        claim = bounded.claim(bounded.submit(make_spec(deadline_s=asked), owner="ann").audit.id, worker="w1")
        assert claim.seconds_left == given

    def test_a_live_worker_is_told(self, ledger, audit_id, pass_deadline):
        claim = ledger.claim(audit_id, worker="w1")
        pass_deadline(ledger, audit_id)
        assert ledger.heartbeat(claim).seconds_left < 0
        assert ledger.reap() == []

    def test_a_lost_attempt_ends_it(self, ledger, audit_id, make_due, pass_deadline):
        ledger.claim(audit_id, worker="w1")
        pass_deadline(ledger, audit_id)
        make_due(ledger, audit_id)
        assert ledger.reap() == []
        assert ledger.get(audit_id).failure.code == "deadline_exceeded"

    def test_it_is_not_claimed_again(self, ledger, audit_id, pass_deadline):
        ledger.release(ledger.claim(audit_id, worker="w1"))
        pass_deadline(ledger, audit_id)
        assert ledger.claim(audit_id, worker="w2") is None
        assert ledger.get(audit_id).failure.code == "deadline_exceeded"

    def test_it_ends_while_it_waits(self, ledger, audit_id, pass_deadline):
        ledger.release(ledger.claim(audit_id, worker="w1"))
        pass_deadline(ledger, audit_id)
        assert ledger.reap() == []
        record = ledger.get(audit_id)
        assert (record.status, record.failure.code) == ("failed", "deadline_exceeded")


class OtherBoot(BootClock):
    """The same machine after a reboot."""

    def read(self, connection):
        return replace(super().read(connection), epoch="the next boot")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
class TestSqliteClock:
    @pytest.mark.parametrize("jump_s", [3_600, -3_600])
    def test_a_jump_of_the_wall_clock_neither_ends_nor_extends_a_lease(
        self, url, open_ledger, make_spec, make_due, monkeypatch, jump_s
    ):
        class Jumped(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + timedelta(seconds=jump_s)

        # As long as a test may take at most: the machine may stall meanwhile.
        ledger = open_ledger(url, lease_s=1_000)
        audit_id = ledger.submit(make_spec(deadline_s=1_000), owner="ann").audit.id
        began_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        claim = ledger.claim(audit_id, worker="w1")
        monkeypatch.setattr(jobs.clock, "datetime", Jumped)
        assert ledger.reap() == []
        left_s = ledger.heartbeat(claim).seconds_left
        assert 1_000 - (time.clock_gettime(time.CLOCK_BOOTTIME) - began_at) <= left_s <= 1_000
        make_due(ledger, audit_id, by=1_000)
        assert ledger.reap() == [audit_id]

    def test_leases_of_an_earlier_boot_are_over(self, ledger, make_spec):
        audit_id = ledger.submit(make_spec(deadline_s=1_000), owner="ann").audit.id
        ledger.claim(audit_id, worker="w1")
        ledger._clock = OtherBoot()
        assert ledger.reap() == [audit_id]
        # The ticks of the two boots cannot be compared, the wall clock tells that there is time left.
        assert 0 < ledger.claim(audit_id, worker="w2").seconds_left <= 1_000


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_postgresql_leases_do_not_ask_this_machine(ledger, spec, monkeypatch):
    audit_id = ledger.submit(spec, owner="ann").audit.id
    ledger.claim(audit_id, worker="w1")
    ahead = time.time() + 36_000
    monkeypatch.setattr(time, "time", lambda: ahead)
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: ahead)
    assert ledger.reap() == []
    assert (ledger.get(audit_id).started_at.timestamp() - ahead) < -35_000
