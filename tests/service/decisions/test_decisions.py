"""Decisions about audits, over HTTP and on the pages."""

import urllib.parse

import pytest

from service.decisions.examples import DECISION_SPEC

MARKED = {"decision": "rejected", "decided_by": "<b>Bob</b>", "because": "it *is* a <script>backdoor</script>"}


def decide(served, audit_id, **changes):
    return served.http.post(f"/audits/{audit_id}/decisions", json=DECISION_SPEC | changes)


def test_the_latest_decision_holds_and_none_is_lost(served):
    audit_id = served.file()
    served.succeed(audit_id)
    before = served.http.get(f"/audits/{audit_id}")
    assert before.json()["decision"] is None
    first = decide(served, audit_id)
    assert first.status_code == 201
    second = decide(served, audit_id, decision="needs_work", because="not yet")
    listed = served.http.get(f"/audits/{audit_id}/decisions").json()["decisions"]
    assert listed == [first.json(), second.json()]
    after = served.http.get(f"/audits/{audit_id}", headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.json()["decision"]) == (200, second.json())
    assert served.http.get("/audits").json()["audits"][0]["decision"]["decision"] == "needs_work"
    for method in ("PUT", "PATCH", "DELETE"):
        assert served.http.request(method, f"/audits/{audit_id}/decisions").status_code == 405
    assert served.http.delete(f"/audits/{audit_id}").status_code == 204
    assert served.http.get(f"/audits/{audit_id}/decisions").status_code == 404


def test_there_is_nothing_to_decide_without_a_verdict(served):
    queued, cancelled = served.file(), served.file()
    served.http.post(f"/audits/{cancelled}/cancel")
    codes = [decide(served, audit_id).json()["code"] for audit_id in (queued, cancelled)]
    assert codes == ["report_not_ready", "no_report"]
    assert served.http.get(f"/audits/{queued}/decisions").json() == {"decisions": []}


@pytest.mark.parametrize(
    "changes",
    [{"decision": "maybe"}, {"decided_by": " "}, {"because": ""}, {"because": "a\nb"}, {"because": "x" * 2_001}],
)
def test_a_decision_has_a_word_a_name_and_a_reason(served, changes):
    audit_id = served.file()
    served.succeed(audit_id)
    answer = decide(served, audit_id, **changes)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"#/{next(iter(changes))}"


def test_decisions_are_bounded(served, monkeypatch):
    monkeypatch.setattr("jobs.decisions.MAX_DECISIONS", 1)
    audit_id = served.file()
    served.succeed(audit_id)
    assert decide(served, audit_id).status_code == 201
    assert decide(served, audit_id).json()["code"] == "too_many_decisions"


def test_a_decision_names_the_key_that_it_came_with(serve):
    served = serve(require_keys=True)
    record, token = served.dependencies.ledger.keys.create(
        owner="ann", name="x", scopes=["audits:read", "audits:write"]
    )
    served.http.headers["Authorization"] = f"Bearer {token}"
    audit_id = served.file()
    served.succeed(audit_id)
    assert decide(served, audit_id).json()["key_id"] == record.id


def test_reports_for_people_show_the_decision_as_text(served):
    audit_id = served.file()
    served.succeed(audit_id)
    url = f"/audits/{audit_id}/report"
    plain = served.http.get(url)
    page = served.http.get(url, params={"format": "html"})
    decide(served, audit_id)
    decide(served, audit_id, **MARKED)
    assert served.http.get(url).content == plain.content, "the report itself never changes"
    decided = served.http.get(url, params={"format": "html"})
    assert decided.headers["etag"] != page.headers["etag"]
    assert "<strong>Rejected</strong> by &lt;b&gt;Bob" in decided.text
    assert "<script>backdoor" not in decided.text
    markdown = served.http.get(url, params={"format": "markdown"}).text
    assert "**Rejected** by " in markdown
    assert "<script>" not in markdown


def test_a_decision_is_recorded_on_the_page(served):
    audit_id = served.file()
    served.succeed(audit_id)
    path = f"/ui/audits/{audit_id}"
    assert "Nobody has decided" in served.http.get(path).text

    def post(fields):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return served.http.post(f"{path}/decisions", content=urllib.parse.urlencode(fields), headers=headers)

    refused = post(MARKED | {"because": " "})
    assert refused.status_code == 422
    assert 'value="&lt;b&gt;Bob' in refused.text, "what was typed is not lost"
    assert post(MARKED).status_code == 303
    shown = served.http.get(path).text
    assert "<strong>Rejected</strong> by &lt;b&gt;Bob" in shown
    assert "<script>backdoor" not in shown
    assert "rejected" in served.http.get("/").text
