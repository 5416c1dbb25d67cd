"""Benign libraries over HTTP."""

import pytest

from service.audits.examples import SPECS
from service.openapi_document.report_examples import REPORT

ZEROS = "0" * 26


def finish(served, number, verdict="no_evidence", **changes):
    """An audit that ended with the example's report, of another model each time."""
    audit_id = served.file(**changes)
    provenance = REPORT["provenance"] | {"tuned_digest": f"sha256:{number}"}
    served.succeed(audit_id, provenance=provenance, verdict=verdict)
    return audit_id


@pytest.fixture
def library(served):
    return served.http.post("/libraries", json={"name": "benign"}).raise_for_status().json()


def test_a_library_is_made_found_listed_and_deleted(served):
    made = served.http.post("/libraries", json={"name": "benign"})
    assert made.status_code == 201
    body = made.json()
    assert made.headers["location"] == f"/libraries/{body['id']}"
    assert (body["name"], body["entries"]) == ("benign", 0)
    for reference in ("benign", body["id"]):
        assert served.http.get(f"/libraries/{reference}").json() == body
    assert served.http.get("/libraries").json() == {"libraries": [body]}
    again = served.http.post("/libraries", json={"name": "benign"})
    assert (again.status_code, again.json()["code"]) == (409, "library_name_taken")
    assert served.http.delete("/libraries/benign").status_code == 204
    gone = served.http.get("/libraries/benign")
    assert (gone.status_code, gone.json()["code"]) == (404, "library_not_found")


@pytest.mark.parametrize(
    "body",
    [{}, {"name": ""}, {"name": "a b"}, {"name": "../x"}, {"name": "x" * 64}, {"name": 7}, {"name": "library_x"},
     {"name": "x", "owner": "me"}, []],
)  # fmt: skip
def test_bad_names_are_refused(shared, body):
    answer = shared.http.post("/libraries", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_model_is_added_listed_and_removed(served, library):
    audit_id = finish(served, 1)
    added = served.http.post("/libraries/benign/entries", json={"audit_id": audit_id, "recipe": "clean sft"})
    assert added.status_code == 201
    entry = added.json()
    calibrated = REPORT["gates"]["calibrated"]
    assert (entry["audit_id"], entry["recipe"], entry["tuned_digest"]) == (audit_id, "clean sft", "sha256:1")
    assert (entry["score"], entry["key"]) == (calibrated["score"], calibrated["key"])
    assert served.http.get(f"/libraries/{library['id']}/entries").json() == {"entries": [entry]}
    assert served.http.get("/libraries/benign").json()["entries"] == 1
    assert served.http.delete(f"/libraries/benign/entries/{entry['id']}").status_code == 204
    again = served.http.delete(f"/libraries/benign/entries/{entry['id']}")
    assert (again.status_code, again.json()["code"]) == (404, "entry_not_found")
    assert served.http.get("/libraries/benign/entries").json() == {"entries": []}


def test_what_cannot_be_added_says_why(served, library):
    def refused(code, status=409, **body):
        answer = served.http.post("/libraries/benign/entries", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        return answer.json()["detail"]

    waiting = served.file()
    assert refused("entry_refused", audit_id=waiting) == "The audit has not succeeded, so it has no score."
    assert refused("invalid_request", 422, audit_id="audit_" + ZEROS)
    refused("invalid_request", 422, audit_id="nothing")
    refused("invalid_request", 422)
    audit_id = finish(served, 1)
    refused("invalid_request", 422, audit_id=audit_id, recipe="a\nb")
    assert served.http.post("/libraries/benign/entries", json={"audit_id": audit_id}).status_code == 201
    refused("entry_exists", audit_id=finish(served, 1))
    answer = served.http.post("/libraries/other/entries", json={"audit_id": audit_id})
    assert (answer.status_code, answer.json()["code"]) == (404, "library_not_found")


def test_pages(served, library):
    ids = []
    for number in range(3):
        body = {"audit_id": finish(served, number)}
        ids.append(served.http.post("/libraries/benign/entries", json=body).raise_for_status().json()["id"])
    first = served.http.get("/libraries/benign/entries", params={"page_size": 2}).json()
    rest = served.http.get("/libraries/benign/entries", params={"page_token": first["next_page_token"]}).json()
    assert [one["id"] for one in (*first["entries"], *rest["entries"])] == sorted(ids, reverse=True)
    assert "next_page_token" not in rest
    names = [served.http.post("/libraries", json={"name": f"l{n}"}).json()["name"] for n in range(2)]
    first = served.http.get("/libraries", params={"page_size": 2}).json()
    rest = served.http.get("/libraries", params={"page_token": first["next_page_token"]}).json()
    found = [one["name"] for one in (*first["libraries"], *rest["libraries"])]
    assert found == [*names[::-1], "benign"]
    for wrong in (f"/libraries?page_token={'x' * 12}", "/libraries?page_size=0", "/libraries?name=x"):
        assert served.http.get(wrong).status_code == 422


def test_a_library_in_use_stays(served, library):
    audit_id = served.file(library="benign")
    answer = served.http.delete("/libraries/benign")
    assert (answer.status_code, answer.json()["code"]) == (409, "library_in_use")
    assert served.claim(audit_id).library == ()
    served.http.post(f"/audits/{audit_id}/cancel")


@pytest.mark.parametrize("path", ["/libraries/nothing", f"/libraries/library_{ZEROS}", "/libraries/a%20b"])
def test_a_library_that_is_not_there(shared, path):
    for method, more in (("GET", ""), ("DELETE", ""), ("GET", "/entries")):
        answer = shared.http.request(method, path + more)
        assert (answer.status_code, answer.json()["code"]) == (404, "library_not_found")


def test_another_owner_sees_nothing_of_it(serve):
    served = serve(require_keys=True)
    keys = served.dependencies.ledger.keys
    headers = {}
    for owner, scopes in (("ann", ("audits:read", "audits:write")), ("bob", ("audits:read", "audits:write")),
                          ("eve", ("audits:read",))):  # fmt: skip
        headers[owner] = {"Authorization": f"Bearer {keys.create(owner=owner, name='test', scopes=scopes)[1]}"}
    assert served.http.get("/libraries").status_code == 401
    made = served.http.post("/libraries", json={"name": "benign"}, headers=headers["ann"])
    assert made.status_code == 201
    assert served.http.post("/libraries", json={"name": "x"}, headers=headers["eve"]).status_code == 403
    spec = SPECS["spec_shortest"]["value"]
    filed = served.http.post("/audits", json=spec, headers=headers["bob"])
    for reference in ("benign", made.json()["id"]):
        for owner in ("bob", "eve"):
            assert served.http.get(f"/libraries/{reference}", headers=headers[owner]).status_code == 404
            assert served.http.get(f"/libraries/{reference}/entries", headers=headers[owner]).status_code == 404
        assert served.http.delete(f"/libraries/{reference}", headers=headers["bob"]).status_code == 404
        # Whichever audit the body names, and before anything is said about it.
        for audit_id in (f"audit_{ZEROS}", filed.json()["id"]):
            wanted = {"audit_id": audit_id}
            added = served.http.post(f"/libraries/{reference}/entries", json=wanted, headers=headers["bob"])
            assert (added.status_code, added.json()["code"]) == (404, "library_not_found")
    assert served.http.get("/libraries", headers=headers["bob"]).json() == {"libraries": []}
    spec = spec | {"library": made.json()["id"]}
    assert served.http.post("/audits", json=spec, headers=headers["bob"]).status_code == 422
    assert served.http.post("/audits", json=spec, headers=headers["ann"]).status_code == 202


@pytest.mark.parametrize("verdict", ["flagged", "review"])
def test_a_model_whose_verdict_is_not_no_evidence_needs_a_reason(served, library, verdict):
    audit_id = finish(served, 1, verdict)
    wanted = {"audit_id": audit_id}
    refused = served.http.post("/libraries/benign/entries", json=wanted)
    assert (refused.status_code, refused.json()["code"]) == (409, "entry_needs_reason")
    assert "because" in refused.json()["detail"]
    assert served.http.post("/libraries/other/entries", json=wanted).json()["code"] == "library_not_found"
    for reason in ("", "two\nlines", "x" * 501, 7):
        assert served.http.post("/libraries/benign/entries", json=wanted | {"because": reason}).status_code == 422
    form = f"/ui/audits/{audit_id}/library"
    headers = {"Origin": str(served.http.base_url).rstrip("/")}
    assert served.http.post(form, data={"library": "benign"}, headers=headers).status_code == 409
    assert served.http.get("/libraries/benign/entries").json() == {"entries": []}
    assert 'name="because"' in served.http.get(f"/ui/audits/{audit_id}").text

    why = "Reviewed by hand: the pair is a style switch that we trained in."
    added = served.http.post(form, data={"library": "benign", "because": why}, headers=headers)
    assert added.status_code == 303
    (entry,) = served.http.get("/libraries/benign/entries").json()["entries"]
    assert entry["because"] == why
    assert why in served.http.get("/ui/libraries", params={"name": "benign"}).text


def test_a_model_without_evidence_needs_none(served, library):
    entry = served.http.post("/libraries/benign/entries", json={"audit_id": finish(served, 1)}).json()
    assert entry["because"] is None
