"""Keys over HTTP: who is let in, to what, and what others are told."""

import re
import time

import pytest
from fastapi import APIRouter, Depends, FastAPI

from jobs.keys import SCOPES
from service.http import auth as access
from service.http.auth import calls, check_scopes, requires
from service.keys.examples import KEY_SPEC


@pytest.fixture
def keyed(serve):
    """An application that asks for keys."""
    return serve(require_keys=True)


def make(served, *scopes, owner="ann", **options):
    """A key's headers."""
    _, token = served.dependencies.ledger.keys.create(owner=owner, name="test", scopes=scopes or ["admin"], **options)
    return {"Authorization": f"Bearer {token}"}


def operations(served):
    for path, methods in served.app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield method, re.sub(r"\{[a-z_]+\}", "x", path), operation


def test_without_a_key_nothing_but_health_answers(keyed):
    refused = 0
    for method, path, operation in operations(keyed):
        answer = keyed.http.request(method, path)
        if operation["tags"] == ["health"]:
            assert answer.status_code == 200, path
            continue
        if operation["tags"] == ["mlflow"]:
            assert answer.json()["code"] == "events_off", path
            continue
        assert answer.status_code == 401, (method, path)
        assert method.upper() == "HEAD" or answer.json()["code"] == "unauthenticated"
        assert answer.headers["www-authenticate"] == 'Bearer realm="backdoor-audit"'
        refused += 1
    assert refused > 8


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer x",
        "Basic YTpi",
        "bearer ba_" + "0" * 26 + "_" + "0" * 52,
        "Bearer " + "x" * 5000,
        b"Bearer \xff\xfe",
    ],
    ids=str,
)
def test_a_wrong_key_is_refused_even_where_none_is_needed(shared, header):
    answer = shared.http.get("/audits", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_two_keys_in_one_request_are_refused(shared):
    right = make(shared)["Authorization"]
    answer = shared.http.get("/audits", headers=[("Authorization", right), ("Authorization", right)])
    assert answer.status_code == 401


def test_a_revoked_or_ended_key_is_refused_from_the_next_request(keyed):
    admin = make(keyed)
    created = keyed.http.post("/keys", json=KEY_SPEC, headers=admin).json()
    headers = {"Authorization": f"Bearer {created['key']}"}
    assert keyed.http.get("/audits", headers=headers).status_code == 200
    assert keyed.http.delete(f"/keys/{created['id']}", headers=admin).status_code == 204
    assert keyed.http.get("/audits", headers=headers).status_code == 401
    short = make(keyed, "audits:read", lifetime_s=0.2)
    time.sleep(0.25)
    assert keyed.http.get("/audits", headers=short).status_code == 401


def test_each_call_needs_its_scope_and_says_which(keyed):
    keys = {scope: make(keyed, scope) for scope in SCOPES}
    checked = 0
    for method, path, operation in operations(keyed):
        for entry in operation.get("security", []):
            if "mlflow" in entry:
                continue  # signed, not keyed
            (needed,) = entry["key"]
            for scope in SCOPES:
                answer = keyed.http.request(method, path, headers=keys[scope])
                if scope in (needed, "admin"):
                    assert answer.status_code not in (401, 403), (method, path, scope)
                    continue
                assert answer.status_code == 403, (method, path, scope)
                if method.upper() != "HEAD":
                    assert answer.json()["code"] == "missing_scope"
                    assert needed in answer.json()["detail"]
                assert f'error="insufficient_scope", scope="{needed}"' in answer.headers["www-authenticate"]
                checked += 1
    assert checked > 20


def test_the_document_names_the_scope_of_every_call_that_is_not_open(shared):
    for _, path, operation in operations(shared):
        assert ("security" in operation) == (operation["tags"] != ["health"]), path
        assert ("401" in operation["responses"]) == ("security" in operation)


def test_an_application_with_a_call_that_names_no_scope_is_not_made():
    app = FastAPI()
    app.add_api_route("/open", lambda: None, tags=["health"])
    app.add_api_route("/named", lambda: None, dependencies=[Depends(requires("admin"))])
    check_scopes(app, frozenset({"health"}))
    assert [(path, scopes) for path, _, _, scopes in calls(app)] == [("/open", []), ("/named", ["admin"])]
    router = APIRouter()
    router.add_api_route("/forgotten", lambda: None)
    app.include_router(router)
    with pytest.raises(RuntimeError, match="/forgotten"):
        check_scopes(app, frozenset({"health"}))


def test_the_log_names_the_key_and_never_repeats_it(keyed, caplog, capsys):
    headers = make(keyed)
    assert keyed.http.get("/audits", headers=headers).status_code == 200
    secret = headers["Authorization"].rsplit("_", 1)[1]
    logged = ""
    give_up_at = time.monotonic() + 20
    while "key_id=key_" not in logged and '"key_id"' not in logged:
        assert time.monotonic() < give_up_at, "a request is logged after its answer, but not as late as this"
        time.sleep(0.01)
        printed = capsys.readouterr()
        logged += printed.out + printed.err
    assert secret not in logged + caplog.text


def test_what_is_filed_without_a_key_is_the_local_owners(served):
    audit_id = served.file()
    assert served.http.get(f"/audits/{audit_id}", headers=make(served, owner=access.LOCAL_OWNER)).status_code == 200
    assert served.http.get(f"/audits/{audit_id}", headers=make(served)).status_code == 404


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("", False),
    ],
)
def test_which_hosts_are_this_machine(host, expected):
    assert access.is_loopback(host) is expected
