"""Rows of the fault matrix in which the API dies, messages repeat, or a cancel comes."""

import random
import threading
import time

import pytest
from sqlalchemy import create_engine, text

from backdoor_audit.client.errors import ClientError, Conflict
from backdoor_audit.contract.lifecycle import TERMINAL
from tests.faults.stack import ENDLESS, MISSING, System, until
from tests.toy import toy_spec

pytestmark = pytest.mark.timeout(900)


class Posting(threading.Thread):
    """A client that files an audit and, being a client, does not give up when the connection breaks."""

    def __init__(self, system: System, key: str) -> None:
        super().__init__(daemon=True)
        self._system, self._key = system, key
        self.audit_id = ""

    def run(self) -> None:
        give_up_at = time.monotonic() + 120
        while not self.audit_id:
            try:
                self.audit_id = self._system.client.submit(toy_spec(), idempotency_key=self._key).id
            except ClientError:
                assert time.monotonic() < give_up_at
                time.sleep(0.2)


TRIES = 5
"""On a busy machine a row may come too late for its moment; then it lets the audit go and begins anew."""


def _filed(system: System, client: Posting) -> str:
    """Start the client; return the id of its audit as soon as the ledger has it."""
    client.start()
    until(lambda: bool(system.ledger.list(status="queued").audits), 60, "no audit was filed")
    (record,) = system.ledger.list(status="queued").audits
    return record.id


def _let_go(system: System, client: Posting) -> None:
    client.join(120)
    system.client.cancel(client.audit_id)
    system.tidy()


def test_row_01_api_killed_between_ledger_and_queue(system: System) -> None:
    before = system.broker.pushed()
    for attempt in range(TRIES):
        client = Posting(system, f"row-01-{attempt}")
        # A broker that does not answer holds the API back for as long as it takes to hit it.
        with system.broker.paused():
            audit_id = _filed(system, client)
            system.api.kill()
        if not client.audit_id:
            break
        system.api.start()
        _let_go(system, client)
    else:
        pytest.fail("the API was never hit in time")
    assert system.broker.pushed() == before, "nothing was enqueued"
    system.start_worker()
    system.api.start()
    assert system.succeeded(audit_id).audit_id == audit_id
    client.join(120)
    assert client.audit_id == audit_id, "the client's second try finds the audit of the first"
    assert system.claims(audit_id) == 1


def test_row_02_api_killed_between_queue_and_answer(system: System) -> None:
    engine = create_engine(system.database_url)
    for attempt in range(TRIES):
        before = system.broker.pushed()
        client = Posting(system, f"row-02-{attempt}")
        with engine.connect() as holder:
            with system.broker.paused():
                audit_id = _filed(system, client)
                # Now the API cannot note that it has enqueued the audit, and so cannot answer.
                holder.execute(text("SELECT id FROM audits WHERE status = 'queued' FOR UPDATE"))
            give_up_at = time.monotonic() + 3
            while system.broker.pushed() == before and time.monotonic() < give_up_at:
                time.sleep(0.01)
            hit = system.broker.pushed() > before and not client.audit_id
            if hit:
                system.api.kill()
        if hit:
            break
        _let_go(system, client)
    else:
        pytest.fail("the API was never hit in time")
    engine.dispose()
    system.api.start()
    client.join(120)
    assert client.audit_id == audit_id
    assert [record.id for record in system.ledger.list(status="queued").audits] == [audit_id]
    system.start_worker()
    assert system.succeeded(audit_id).audit_id == audit_id
    assert system.claims(audit_id) == 1


def test_row_10_same_message_five_times(system: System) -> None:
    for _ in range(2):
        system.start_worker()
    audit_id = system.ledger.submit(toy_spec(), owner="local").audit.id
    for _ in range(5):
        system.dispatcher.enqueue(audit_id)
    system.succeeded(audit_id)
    assert system.claims(audit_id) == 1
    assert system.ledger.get(audit_id).attempt == 1


def test_row_14_cancel_queued_running_and_racing(system: System) -> None:
    queued = system.post(toy_spec())
    assert system.client.cancel(queued).status == "cancelled"
    # With a heartbeat this slow, only progress can bring the cancel in time.
    worker = system.start_worker(lease_s="120", heartbeat_s="60")
    running = system.post(ENDLESS)
    sandbox = worker.sandbox()
    system.wait(running, lambda record: record.stage not in (None, "resolve", "preflight"))
    asked = time.monotonic()
    assert system.client.cancel(running).status == "cancelling"
    system.end_of(running, timeout_s=60)
    assert time.monotonic() - asked < 30
    sandbox.wait(10)
    racing = _race(system)
    finishing = system.post(toy_spec())
    system.wait(finishing, lambda record: record.stage in ("explain", "report") or record.status in TERMINAL)
    system.client.cancel(finishing)
    system.end_of(finishing)
    assert system.one_end(queued).status == system.one_end(running).status == "cancelled"
    for audit_id in (*racing, finishing):
        _consistent(system, audit_id)
    assert system.claims(queued) == 0
    ended = [running, *(one for one in racing if system.ledger.get(one).status != "succeeded")]
    until(lambda: not any(system.workspace(one).root.exists() for one in ended), 30, "artifacts are left")


def _race(system: System) -> list[str]:
    """Cancel audits that end by themselves at about the same moment."""
    rng = random.Random(14)
    audits = []
    for _ in range(15):
        audit_id = system.post(MISSING)
        time.sleep(rng.uniform(0, 0.25))
        system.client.cancel(audit_id)
        audits.append(audit_id)
    for audit_id in audits:
        system.end_of(audit_id)
    return audits


def _consistent(system: System, audit_id: str) -> None:
    """API and ledger tell one end, and there is a report exactly where it is a success."""
    end = system.one_end(audit_id)
    audit = system.client.get(audit_id)
    assert audit.status == end.status
    assert (audit.failure is not None) == (end.status == "failed")
    if end.status == "succeeded":
        assert system.client.report(audit_id).audit_id == audit_id
    else:
        with pytest.raises(Conflict):
            system.client.report(audit_id)
