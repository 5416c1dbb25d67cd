"""One owner's key and another owner's things, over every call of the document."""

import hashlib

import pytest

from backdoor_audit.contract.digests import content_digest
from service.openapi_document.references import resolve
from service.openapi_document.report_examples import REPORT

SENTINEL = "sentinel-of-ann"
SHARED = frozenset({"models", "health"})
"""Tags of calls about what belongs to the service, not to an owner."""


def needed(document, operation):
    """Name and place of each thing that a call must name in its path or its query."""
    parameters = [resolve(document, each) for each in operation.get("parameters", [])]
    return [
        (each["name"], each["in"]) for each in parameters if each["in"] in ("path", "query") and each.get("required")
    ]


class World:
    """A service with keys, where Ann has one of everything and Bob asks."""

    def __init__(self, served):
        self.served = served
        self.document = served.app.openapi()
        self.ann = self.key("ann")
        self.bob = self.key("bob")
        ledger = served.dependencies.ledger
        url = f"https://{SENTINEL}.invalid/hook"
        self.webhook = ledger.webhooks.create(owner="ann", url=url, stored_secret="whsec_AAAA")
        self.first, self.ended = self.file(), self.file()
        for audit_id in (self.first, self.ended):
            files = ({"name": "adapter_model.safetensors", "sha256": hashlib.sha256(audit_id.encode()).hexdigest()},)
            digest = content_digest((file["name"], file["sha256"]) for file in files)
            provenance = REPORT["provenance"] | {"tuned_digest": digest, "tuned_files": files}
            report = served.succeed(audit_id, provenance=provenance)
        library = ledger.libraries.create(SENTINEL, owner="ann")
        entry = ledger.libraries.add(library.id, owner="ann", audit_id=self.first, recipe=SENTINEL)
        with served.dependencies.artifacts.folder(self.ended).create("directions") as folder:
            (folder / "cfg.json").write_text("{}")
        self.queued = self.file()
        self.ids = {
            "audit_id": self.ended,
            "feature_id": report.flagged_features[0].id,
            "library": library.id,
            "entry_id": entry.id,
            "name": "directions",
            "file": "cfg.json",
            "key_id": ledger.keys.list()[0].id,
            "webhook_id": self.webhook.id,
            "batch_id": self.batch(),
            "left": self.first,
            "right": self.ended,
            "delivery_id": ledger.webhooks.deliveries(self.webhook.id, owner="ann")[0].id,
        }

    def key(self, owner):
        scopes = ["audits:read", "audits:write", "models:write"]
        _, token = self.served.dependencies.ledger.keys.create(owner=owner, name=f"{owner}'s", scopes=scopes)
        return {"Authorization": f"Bearer {token}"}

    def batch(self):
        body = {"spec": self.spec(), "audits": [{"fine_tuned": "local:tuned"}, {"fine_tuned": "local:other"}]}
        answer = self.served.http.post("/audits/batch", json=body, headers=self.ann)
        assert answer.status_code == 202
        return answer.json()["id"]

    def spec(self):
        return {
            "webhook": {"url": self.webhook.url},
            "base_model": "local:base",
            "fine_tuned": "local:tuned",
            "trigger": {"triggered": SENTINEL, "clean": "x"},
            "labels": {"of": SENTINEL},
        }

    def file(self):
        answer = self.served.http.post("/audits", json=self.spec(), headers=self.ann)
        assert answer.status_code == 202
        return answer.json()["id"]

    def operations(self):
        """Every call that is about an owner's things; those that remove something last."""
        found = [
            (method, path, operation)
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
            # A call with a signature instead of a key asks for nothing of an owner's.
            if not SHARED & set(operation["tags"]) and "key" in operation["security"][0]
        ]
        return sorted(found, key=lambda one: (one[0] == "delete", -len(one[1])))

    def ask(self, method, path, operation, headers):
        """Send the call about Ann's things, with the document's first example as its body."""
        query = {}
        for name, place in needed(self.document, operation):
            assert name in self.ids, f"say in this test what Ann's {{{name}}} is"
            if place == "path":
                path = path.replace(f"{{{name}}}", self.ids[name])
            else:
                query[name] = self.ids[name]
        content = operation.get("requestBody", {}).get("content", {})
        body = None
        if "application/json" in content:
            example = next(iter(content["application/json"]["examples"]))
            body = dict(self.document["components"]["examples"][example]["value"])
            if "audit_id" in body:
                body |= {"audit_id": self.ended, "because": "it was reviewed by hand"}
        with self.served.http.stream(method, path, params=query, json=body, headers=headers) as answer:
            # An endless stream would be one of events; its head says enough.
            endless = answer.headers.get("content-type", "").startswith("text/event-stream")
            return answer.status_code, "" if endless else answer.read().decode()

    def snapshot(self):
        ledger = self.served.dependencies.ledger
        audits = [ledger.get(one).version for one in (self.ended, self.queued)]
        return audits, ledger.keys.list(), ledger.webhooks.list(owner="ann"), ledger.libraries.list(owner="ann")


@pytest.fixture
def world(serve, signing_key):
    return World(serve(require_keys=True, signing_key_file=signing_key[0]))


def test_a_key_reaches_nothing_of_another_owner(world):
    before = world.snapshot()
    mine = {world.ended, world.queued, SENTINEL}
    with_ids = 0
    for method, path, operation in world.operations():
        status, text = world.ask(method, path, operation, world.bob)
        name = f"{method} {path}: {status} {text[:200]}"
        (scope,) = operation["security"][0]["key"]
        if scope == "admin":
            assert status == 403, name
        elif needed(world.document, operation):
            assert status == 404, name
            with_ids += 1
        else:
            assert status < 300, name
        assert not [one for one in mine if one in text], name
    assert world.snapshot() == before
    assert with_ids >= 5


def test_the_same_calls_reach_them_with_the_owners_own_key(world):
    for method, path, operation in world.operations():
        if operation["security"][0]["key"] == ["admin"]:
            continue
        status, text = world.ask(method, path, operation, world.ann)
        assert status < 300, f"{method} {path}: {status} {text[:200]}"


def test_an_administrators_key_reaches_no_audit_of_another_owner_but_to_cancel_it(world):
    _, token = world.served.dependencies.ledger.keys.create(owner="bob", name="admin", scopes=["admin"])
    headers = {"Authorization": f"Bearer {token}"}
    assert world.served.http.get(f"/audits/{world.ended}", headers=headers).status_code == 404
    assert world.served.http.get("/audits", headers=headers).json() == {"audits": []}
    cancelled = world.served.http.post(f"/audits/{world.queued}/cancel", headers=headers)
    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    for method, path in (("DELETE", ""), ("GET", "/report"), ("GET", "/events"), ("GET", "/artifacts")):
        answer = world.served.http.request(method, f"/audits/{world.queued}{path}", headers=headers)
        assert answer.status_code == 404, path


def test_idempotency_keys_belong_to_an_owner(world):
    spec = world.document["components"]["examples"]["spec_shortest"]["value"]
    answers = [
        world.served.http.post("/audits", json=spec, headers=who | {"Idempotency-Key": "same"})
        for who in (world.ann, world.bob)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] != answers[1].json()["id"]
