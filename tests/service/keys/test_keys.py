"""Keys made, listed and revoked: over HTTP, and in the ledger by ``python -m service.keys``."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.keys.examples import KEY_SPEC

ROOT = Path(__file__).resolve().parents[3]


def test_a_key_is_shown_once(served):
    answer = served.http.post("/keys", json=KEY_SPEC)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    token = body.pop("key")
    assert (body["owner"], body["name"]) == ("ci", "pipeline")
    assert body["expires_at"] > body["created_at"]
    assert served.dependencies.ledger.keys.check(token).id == body["id"]
    listed = served.http.get("/keys")
    assert listed.json() == {"keys": [body]}
    assert token.rsplit("_", 1)[1] not in listed.text


def test_a_key_is_the_askers_own_unless_it_says_otherwise(served):
    body = served.http.post("/keys", json={"name": "mine", "scopes": ["audits:read"]}).json()
    assert (body["owner"], body["expires_at"]) == ("local", None)


def test_revoking_twice_is_revoking_once(served):
    key_id = served.http.post("/keys", json=KEY_SPEC).json()["id"]
    assert served.http.delete(f"/keys/{key_id}").status_code == 204
    revoked_at = served.http.get("/keys").json()["keys"][0]["revoked_at"]
    assert revoked_at is not None
    assert served.http.delete(f"/keys/{key_id}").status_code == 204
    assert served.http.get("/keys").json()["keys"][0]["revoked_at"] == revoked_at


@pytest.mark.parametrize("key_id", ["key_" + "0" * 26, "x", "audit_" + "0" * 26])
def test_a_key_that_is_not_there(shared, key_id):
    answer = shared.http.delete(f"/keys/{key_id}")
    assert (answer.status_code, answer.json()["code"]) == (404, "key_not_found")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": ""}, "#/name"),
        ({"name": "x" * 101}, "#/name"),
        ({"name": "a\nb"}, "#/name"),
        ({"owner": "\u202e"}, "#/owner"),
        ({"scopes": []}, "#/scopes"),
        ({"scopes": ["audits:read", "audits:read"]}, "#/scopes"),
        ({"scopes": ["root"]}, "#/scopes/0"),
        ({"scopes": "admin"}, "#/scopes"),
        ({"expires_in_s": 0}, "#/expires_in_s"),
        ({"expires_in_s": 10**30}, "#/expires_in_s"),
        ({"expires_in_s": "60"}, "#/expires_in_s"),
        ({"expires_in_s": True}, "#/expires_in_s"),
        ({"secret": "mine"}, "#/secret"),
    ],
    ids=str,
)
def test_a_wrong_key_spec_is_refused(shared, change, pointer):
    answer = shared.http.post("/keys", json=KEY_SPEC | change)
    assert answer.status_code == 422
    assert [item["pointer"] for item in answer.json()["errors"]] == [pointer]


def command(*arguments, data_dir):
    return subprocess.run(
        [sys.executable, "-m", "service.keys", "--data-dir", str(data_dir), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_makes_the_first_key_before_anything_else_is_there(tmp_path):
    made = command("create", "--name", "first", "--scopes", "admin", "--expires-in-days", "1", data_dir=tmp_path)
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)
    assert (key["owner"], key["scopes"]) == ("local", ["admin"])
    assert key["key"] not in made.stderr
    listed = json.loads(command("list", data_dir=tmp_path).stdout)
    assert [one["id"] for one in listed] == [key["id"]]
    assert command("revoke", key["id"], data_dir=tmp_path).returncode == 0
    assert json.loads(command("list", data_dir=tmp_path).stdout)[0]["revoked_at"] is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("revoke", "key_" + "0" * 26), "no key"),
        (("create", "--name", "", "--scopes", "admin"), "name must be"),
        (("create", "--name", "x", "--scopes", "root"), "invalid choice"),
        (("create", "--name", "x", "--scopes", "admin", "--expires-in-days", "-1"), "longer than 0"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, arguments, said):
    answer = command(*arguments, data_dir=tmp_path)
    assert answer.returncode == 2
    assert said in answer.stderr
