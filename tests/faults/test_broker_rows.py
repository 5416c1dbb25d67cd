"""Rows of the fault matrix in which the broker dies, forgets, drops its clients or is full."""

import time

import pytest

from tests.faults.stack import MISSING, WHOLE, System
from tests.toy import toy_spec

pytestmark = pytest.mark.timeout(900)


def test_row_07_broker_killed_mid_audit(system: System) -> None:
    worker = system.start_worker()
    running = system.post(WHOLE)
    worker.sandbox()
    system.broker.kill()
    during = system.post(MISSING)
    time.sleep(1)
    system.broker.start()
    system.succeeded(running)
    assert system.ledger.get(running).attempt == system.claims(running) == 1
    system.end_of(during)
    after = system.post(MISSING)
    for audit_id in (during, after):
        assert system.end_of(audit_id).attempt == 1
        system.one_end(audit_id)
    assert worker.process.poll() is None


def test_row_08_broker_flushed_with_audits_queued(system: System) -> None:
    audits = [system.post(spec) for spec in (toy_spec(), MISSING, MISSING)]
    with system.broker.client() as client:
        assert client.llen("audits") == len(audits)
        client.flushall()
    system.start_worker()
    for audit_id in audits:
        system.end_of(audit_id)
        system.one_end(audit_id)
        assert system.claims(audit_id) == 1
    system.succeeded(audits[0])


def test_row_09_all_connections_killed_five_times(system: System) -> None:
    worker = system.start_worker()
    audits = [system.post(toy_spec()), system.post(MISSING)]
    with system.broker.client() as client:
        for round_ in range(5):
            client.client_kill_filter(_type="normal", skipme=True)
            audits.append(system.post(MISSING))
            time.sleep(0.2 * round_)
    system.succeeded(audits[0])
    audits.append(system.post(MISSING))
    for audit_id in audits:
        assert system.end_of(audit_id).attempt == 1
        system.one_end(audit_id)
        assert system.claims(audit_id) == 1
    assert worker.process.poll() is None


@pytest.mark.long
def test_row_17_broker_full(system: System) -> None:
    worker = system.start_worker()
    with system.broker.client() as client:
        client.config_set("maxmemory", "1")
        # Accepted all the same: the ledger has it.
        audit_id = system.post(toy_spec())
        time.sleep(4)
        assert system.ledger.get(audit_id).status == "queued"
        assert client.llen("audits") == 0
        client.config_set("maxmemory", "0")
    system.succeeded(audit_id)
    assert system.claims(audit_id) == 1
    assert worker.process.poll() is None
