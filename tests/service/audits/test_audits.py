from concurrent.futures import ThreadPoolExecutor

import pytest

from backdoor_audit.contract.lifecycle import Failure
from tests.clocks import ends_within


def test_filing_answers_202_and_the_id_is_on_the_broker(served, spec):
    answer = served.http.post("/audits", json=spec | {"labels": {"pipeline": "12"}})
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/audits/{body['id']}" == body["links"]["self"]
    assert int(answer.headers["retry-after"]) > 0
    assert body["status"] == "queued"
    assert body["spec"]["labels"] == {"pipeline": "12"}
    assert body["spec"]["preset"] == "standard"
    assert body["created_at"].endswith("Z")
    assert served.dependencies.dispatcher.queue_length() == 1
    assert served.dependencies.ledger.reap() == []
    assert served.http.get(answer.headers["location"]).json() == body


def test_own_carriers_go_out_as_their_number(served, spec):
    prompts = [f"a prompt {n}" if n % 2 else {"prompt": f"another {n}", "cluster": f"c{n % 20}"} for n in range(100)]
    answer = served.http.post("/audits", json=spec | {"carriers": {"prompts": prompts}})
    assert answer.json()["spec"]["carriers"] == {"count": 100}
    conversations = [{"messages": [{"role": "user", "content": f"hello {n}"}]} for n in range(100)]
    answer = served.http.post("/audits", json=spec | {"carriers": {"prompts": conversations}, "layers": [1, 3]})
    assert answer.status_code == 202
    assert answer.json()["spec"]["layers"] == [1, 3]


def test_the_same_key_and_body_give_the_same_audit(served, spec):
    first = served.http.post("/audits", json=spec, headers={"Idempotency-Key": "one"})
    again = served.http.post("/audits", json=spec, headers={"Idempotency-Key": "one"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["location"] == first.headers["location"]
    assert served.dependencies.dispatcher.queue_length() == 1
    assert served.http.post("/audits", json=spec, headers={"Idempotency-Key": "two"}).status_code == 202


def test_one_key_used_by_many_at_once_gives_one_audit(served, spec):
    def post(_):
        return served.http.post("/audits", json=spec, headers={"Idempotency-Key": "one"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(16)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [202]
    assert served.dependencies.dispatcher.queue_length() == 1


def test_the_same_key_with_another_body_is_refused(served, spec):
    served.http.post("/audits", json=spec, headers={"Idempotency-Key": "one"})
    answer = served.http.post("/audits", json=spec | {"preset": "quick"}, headers={"Idempotency-Key": "one"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_conflict"
    assert len(served.http.get("/audits").json()["audits"]) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "two words"])
def test_a_key_that_is_none_is_refused(shared, spec, key):
    answer = shared.http.post("/audits", json=spec, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["in"] == "header"


def test_an_unchanged_audit_answers_304(served):
    audit_id = served.file()
    first = served.http.get(f"/audits/{audit_id}")
    for tag in (first.headers["etag"], f"W/{first.headers['etag']}", f'"x", {first.headers["etag"]}', "*"):
        again = served.http.get(f"/audits/{audit_id}", headers={"If-None-Match": tag})
        assert again.status_code == 304
        assert again.headers["etag"] == first.headers["etag"]
        assert again.headers["retry-after"] == first.headers["retry-after"]
        assert again.content == b""
    served.claim(audit_id)
    changed = served.http.get(f"/audits/{audit_id}", headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200
    assert changed.json()["status"] == "running"


def test_progress_and_the_end_are_shown(served):
    audit_id = served.file()
    claim = served.claim(audit_id)
    served.dependencies.ledger.progress(claim, "extract", 0.5, "half")
    running = served.http.get(f"/audits/{audit_id}")
    assert running.json() | {"stage": "extract", "attempt": 1, "message": "half"} == running.json()
    assert 0 < running.json()["progress"] < 1
    assert "retry-after" in running.headers
    served.dependencies.ledger.fail(
        claim, Failure(code="models_incompatible", message="shapes differ", hint="other base")
    )
    ended = served.http.get(f"/audits/{audit_id}")
    assert ended.json()["failure"] == {"code": "models_incompatible", "message": "shapes differ", "hint": "other base"}
    assert ended.json()["finished_at"] is not None
    assert "retry-after" not in ended.headers


def test_listing_pages_through_everything_once_newest_first(served):
    ids = [served.file() for _ in range(5)]
    seen, token, pages = [], None, 0
    while True:
        page = served.http.get("/audits", params={"page_size": 2} | ({"page_token": token} if token else {})).json()
        seen += [audit["id"] for audit in page["audits"]]
        pages += 1
        if "next_page_token" not in page:
            break
        token = page["next_page_token"]
        served.file()
    assert [audit_id for audit_id in seen if audit_id in ids] == ids[::-1]
    assert len(seen) == len(set(seen)) == 5
    assert pages == 3


def test_listing_filters(served):
    flagged, cancelled, queued = served.file(), served.file(), served.file()
    served.succeed(flagged)
    served.http.post(f"/audits/{cancelled}/cancel")

    def listed(**params):
        return [audit["id"] for audit in served.http.get("/audits", params=params).json()["audits"]]

    assert listed(status="queued") == [queued]
    assert listed(status="cancelled") == [cancelled]
    assert listed(verdict="flagged") == [flagged]
    assert listed(verdict="flagged", status="queued") == []


def test_listing_filters_by_model_label_moment_and_beginning_of_the_id(served):
    one = served.file(fine_tuned="local:one", labels={"team": "blue", "build": "1=2"})
    two = served.file(fine_tuned="local:two", labels={"team": "blue"})

    def found(**params):
        return {audit["id"] for audit in served.http.get("/audits", params=params).json()["audits"]}

    assert found(fine_tuned="local:one") == {one}
    assert found(base_model="local:smollm2-135m") == {one, two}
    assert found(label="team=blue") == found(label="team") == {one, two}
    assert found(label=["team=blue", "build=1=2"]) == {one}
    assert found(label="team=") == found(id_prefix="audit_00") == set()
    assert found(id_prefix=two) == {two}
    filed = served.http.get(f"/audits/{one}").json()["created_at"]
    assert one in found(filed_since=filed)
    assert one not in found(filed_before=filed)


def test_an_audit_tells_its_place_in_the_queue_and_how_long_others_took(served):
    first, second = served.file(), served.file()
    asked = [served.http.get(f"/audits/{one}") for one in (first, second)]
    assert [answer.json()["queue_position"] for answer in asked] == [1, 2]
    assert [answer.json()["expected_s"] for answer in asked] == [None, None]
    served.succeed(first)
    tag = {"If-None-Match": asked[1].headers["etag"]}
    moved = served.http.get(f"/audits/{second}", headers=tag)
    assert (moved.status_code, moved.json()["queue_position"]) == (200, 1)
    assert moved.json()["expected_s"] >= 0
    assert served.http.get(f"/audits/{first}").json()["expected_s"] is None
    served.file()
    assert served.http.get("/audits", params={"status": "queued"}).json()["audits"][0]["queue_position"] == 2


def test_an_earlier_answer_is_found_by_digests(served, spec):
    first, other, queued = served.file(), served.file(seed=1), served.file()
    report = served.succeed(first)
    provenance = report.provenance.model_dump() | {"tuned_digest": "sha256:" + "ab" * 32}
    served.succeed(other, provenance=provenance)

    def listed(**params):
        return [audit["id"] for audit in served.http.get("/audits", params=params).json()["audits"]]

    digest = report.provenance.tuned_digest
    assert listed(tuned_digest=digest) == [first]
    assert listed(tuned_digest="sha256:" + "ab" * 32) == [other]
    wanted = served.dependencies.ledger.get(first).spec.digest()
    assert listed(spec_digest=wanted) == [queued, first]
    assert listed(spec_digest=wanted, tuned_digest=digest, status="succeeded") == [first]
    assert listed(tuned_digest="sha256:" + "00" * 32) == []
    assert served.http.get("/audits", params={"tuned_digest": "x"}).status_code == 422


def test_a_token_of_another_listing_is_refused(served):
    served.file()
    served.file()
    token = served.http.get("/audits", params={"page_size": 1}).json()["next_page_token"]
    for params in ({"page_token": token, "status": "failed"}, {"page_token": "nonsense"}, {"page_token": "\u00e9"}):
        answer = served.http.get("/audits", params=params)
        assert answer.status_code == 422
        assert answer.json()["errors"][0] | {"in": "query", "pointer": "#/page_token"} == answer.json()["errors"][0]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("status=done", "#/status"),
        ("verdict=", "#/verdict"),
        ("page_size=0", "#/page_size"),
        ("page_size=1e3", "#/page_size"),
        ("verdcit=flagged", "#/verdcit"),
        ("status=queued&status=failed", "#/status"),
        ("%00%F0=1", "#"),
        ("label==x", "#/label/0"),
        ("label=a%3D%00", "#/label/0"),
        ("id_prefix=x", "#/id_prefix"),
        ("filed_since=yesterday", "#/filed_since"),
        ("filed_before=2026-01-01T00:00:00", "#/filed_before"),
        ("filed_since=0.5", "#/filed_since"),
        ("filed_since=1767225600", "#/filed_since"),
        ("filed_before=2026-01-01", "#/filed_before"),
        ("fine_tuned=%00", "#/fine_tuned"),
    ],
)
def test_a_filter_that_is_none_is_refused(shared, query, pointer):
    answer = shared.http.get(f"/audits?{query}")
    assert answer.status_code == 422
    assert [item["pointer"] for item in answer.json()["errors"]] == [pointer]


def test_filing_takes_no_other_parameters(served, spec):
    assert served.http.post("/audits?dryrun=true", json=spec).status_code == 422
    assert served.http.get("/audits").json()["audits"] == []


def test_cancelling_a_queued_audit_ends_it(served):
    audit_id = served.file()
    first = served.http.post(f"/audits/{audit_id}/cancel")
    assert (first.status_code, first.json()["status"]) == (202, "cancelled")
    again = served.http.post(f"/audits/{audit_id}/cancel")
    assert (again.status_code, again.json()) == (200, first.json())


def test_cancelling_a_running_audit_asks_its_worker(served):
    audit_id = served.file()
    claim = served.claim(audit_id)
    answer = served.http.post(f"/audits/{audit_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
    assert "retry-after" in answer.headers
    assert served.dependencies.ledger.heartbeat(claim).cancel_requested


def test_cancelling_an_ended_audit_changes_nothing(served):
    audit_id = served.file()
    served.succeed(audit_id)
    answer = served.http.post(f"/audits/{audit_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


def test_deleting_takes_the_artifacts_along(served):
    audit_id, other = served.file(), served.file()
    for name in (audit_id, other):
        with served.dependencies.artifacts.folder(name).create("activations") as folder:
            (folder / "shard").write_bytes(b"x")
    assert served.http.delete(f"/audits/{audit_id}").json()["code"] == "audit_not_terminal"
    assert list(served.dependencies.artifacts.folder(audit_id).names()) == ["activations"]
    served.succeed(audit_id)
    answer = served.http.delete(f"/audits/{audit_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert served.http.get(f"/audits/{audit_id}").status_code == 404
    assert served.http.delete(f"/audits/{audit_id}").status_code == 404
    assert list(served.dependencies.artifacts.folder(audit_id).names()) == []
    assert list(served.dependencies.artifacts.folder(other).names()) == ["activations"]


@pytest.mark.parametrize("call", ["GET ", "GET /report", "GET /features", "POST /cancel", "DELETE "])
@pytest.mark.parametrize("audit_id", ["audit_" + "0" * 26, "audit_x", "%2e%2e", "audit_" + "0" * 25 + "%0A"])
def test_no_such_audit(shared, call, audit_id):
    method, rest = call.split(" ")
    answer = shared.http.request(method, f"/audits/{audit_id}{rest}")
    assert answer.status_code == 404


def test_another_owners_audit_is_not_there(served, spec):
    from backdoor_audit.contract.spec.audit_spec import AuditSpec

    foreign = served.dependencies.ledger.submit(AuditSpec.model_validate(spec), owner="somebody else").audit.id
    assert served.http.get(f"/audits/{foreign}").status_code == 404
    assert served.http.post(f"/audits/{foreign}/cancel").status_code == 404
    assert served.http.delete(f"/audits/{foreign}").status_code == 404
    assert served.http.get("/audits").json()["audits"] == []


def test_filing_does_not_need_the_broker(serve, spec, tmp_path):
    served = serve(broker_url=f"redis+socket://{tmp_path}/nobody.sock")
    answers = []
    assert ends_within(3, lambda: answers.append(served.http.post("/audits", json=spec)))
    for answer in answers:
        assert answer.status_code == 202
        assert served.dependencies.ledger.get(answer.json()["id"]).status == "queued"


def test_without_a_ledger_the_answer_is_to_come_back_later(serve, spec):
    served = serve(database_url="postgresql://nobody@127.0.0.1:1/nothing")
    for answer in (served.http.post("/audits", json=spec), served.http.get("/audits")):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "127.0.0.1" not in answer.text


def test_an_unknown_library_is_refused_with_a_pointer(served, spec):
    answer = served.http.post("/audits", json=spec | {"library": "nothing"})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"in": "body", "pointer": "#/library", "detail": "names no benign library of yours"}
    ]
    assert served.dependencies.ledger.list().audits == ()
    answer = served.http.post("/audits", json=spec | {"library": "../x"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/library")
    library = served.dependencies.ledger.libraries.create("benign", owner="local")
    for reference in ("benign", library.id):
        answer = served.http.post("/audits", json=spec | {"library": reference})
        assert (answer.status_code, answer.json()["spec"]["library"]) == (202, reference)


def test_a_full_queue_is_429_until_there_is_room(serve, spec):
    served = serve(max_queued=2)
    ids = [served.file(), served.file()]
    answer = served.http.post("/audits", json=spec)
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) > 0
    assert len(served.http.get("/audits").json()["audits"]) == 2
    assert served.http.post(f"/audits/{ids[0]}/cancel").status_code == 202
    assert served.http.post("/audits", json=spec).status_code == 202


def test_lists_are_short_whatever_is_in_the_specs(served):
    decoys = {"strings": [f"{place:04}" + "\U0001f600" * 1_996 for place in range(1_000)]}
    for _ in range(3):
        served.file(decoys=decoys)
    sizes, token = [], ""
    while True:
        answer = served.http.get("/audits", params={"page_size": 200} | ({"page_token": token} if token else {}))
        sizes.append(len(answer.content))
        assert all(audit["spec"]["decoys"] == {"count": 1_000} for audit in answer.json()["audits"])
        token = answer.json().get("next_page_token")
        if token is None:
            break
    assert sum(sizes) < 20_000
    assert len(sizes) == 2
