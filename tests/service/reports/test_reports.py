import pytest

from backdoor_audit.contract.lifecycle import Failure
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.report.features import Feature
from service.openapi_document.report_examples import REPORT


def features(*places):
    row = REPORT["flagged_features"][0]
    return tuple(
        Feature.model_validate(
            row | {"id": f"{architecture}/{layer}/0/{n}", "layer": layer, "architecture": architecture, "bis": bis}
        )
        for n, (architecture, layer, bis) in enumerate(places)
    )


def test_the_report_is_served_whole(shared):
    audit_id = shared.file()
    report = shared.succeed(audit_id)
    for suffix in ("", "?format=json"):
        answer = shared.http.get(f"/audits/{audit_id}/report{suffix}")
        assert answer.status_code == 200
        assert AuditReport.model_validate(answer.json()) == report
    assert shared.http.get(f"/audits/{audit_id}").json()["verdict"] == report.verdict


def test_no_report_while_the_audit_runs(shared):
    audit_id = shared.file()
    for _ in range(2):
        for path in ("report", "features"):
            answer = shared.http.get(f"/audits/{audit_id}/{path}")
            assert (answer.status_code, answer.json()["code"]) == (409, "report_not_ready")
        shared.dependencies.ledger.claim(audit_id, worker="test")


def test_no_report_ever_of_a_failed_audit(shared):
    audit_id = shared.file()
    shared.dependencies.ledger.fail(shared.claim(audit_id), Failure(code="internal", message="it broke"))
    answer = shared.http.get(f"/audits/{audit_id}/report")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_report")


TYPES = {
    "json": "application/json",
    "html": "text/html; charset=utf-8",
    "sarif": "application/sarif+json",
    "junit": "application/xml",
    "markdown": "text/markdown; charset=utf-8",
}


@pytest.mark.parametrize("name", TYPES)
def test_other_forms_are_asked_for_by_name(shared, name):
    audit_id = shared.file()
    shared.succeed(audit_id)
    answer = shared.http.get(f"/audits/{audit_id}/report", params={"format": name})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == TYPES[name]
    assert answer.headers["vary"] == "Accept"
    by_header = shared.http.get(f"/audits/{audit_id}/report", headers={"Accept": TYPES[name]})
    assert by_header.content == answer.content
    again = shared.http.get(
        f"/audits/{audit_id}/report", params={"format": name}, headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["pdf", "JSON", ""])
def test_a_form_that_there_is_not_is_refused(shared, name):
    audit_id = shared.file()
    shared.succeed(audit_id)
    assert shared.http.get(f"/audits/{audit_id}/report", params={"format": name}).status_code == 406


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json", "json"),
        ("*/*", "json"),
        ("APPLICATION/*", "json"),
        ("application/json;q=0.5, text/markdown", "markdown"),
        ("application/sarif+json;q=0.9, application/xml;q=0.8", "sarif"),
        ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", "html"),
        ("application/*;q=0.2, application/json;q=0, text/*;q=0.1", "sarif"),
        ("image/png", None),
        ("application/json;q=0", None),
    ],
)
def test_the_accept_header_is_heard(shared, accept, expected):
    audit_id = shared.file()
    shared.succeed(audit_id)
    answer = shared.http.get(f"/audits/{audit_id}/report", headers={"Accept": accept})
    if expected is None:
        assert answer.status_code == 406
    else:
        assert answer.headers["content-type"] == TYPES[expected]


def test_the_page_comes_with_a_strict_policy(shared):
    audit_id = shared.file()
    shared.succeed(audit_id)
    answer = shared.http.get(f"/audits/{audit_id}/report?format=html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert answer.text.startswith("<!doctype html>")


def test_the_checkpoints_file_is_named(serve, toy_models):
    served = serve(models_root=toy_models)
    audit_id = served.file(base_model="local:base", fine_tuned="local:adapter")
    served.succeed(audit_id)
    log = served.http.get(f"/audits/{audit_id}/report?format=sarif").json()
    place = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "adapter/adapter_model.safetensors"


def test_features_are_filtered_and_paged(shared):
    audit_id = shared.file()
    found = features(("diff_sae", 3, 0.9), ("crosscoder", 3, 0.8), ("diff_sae", 5, 0.7), ("diff_sae", 5, -0.2))
    shared.succeed(audit_id, flagged_features=found)

    def listed(**params):
        page = shared.http.get(f"/audits/{audit_id}/features", params=params).json()
        assert "next_page_token" not in page
        return [row["bis"] for row in page["features"]]

    assert listed() == [0.9, 0.8, 0.7, -0.2]
    assert listed(layer=3) == [0.9, 0.8]
    assert listed(architecture="diff_sae", min_bis=0.7) == [0.9, 0.7]
    assert listed(layer=4) == []

    first = shared.http.get(f"/audits/{audit_id}/features", params={"page_size": 3}).json()
    rest = shared.http.get(
        f"/audits/{audit_id}/features", params={"page_size": 3, "page_token": first["next_page_token"]}
    ).json()
    assert [row["bis"] for row in first["features"] + rest["features"]] == [0.9, 0.8, 0.7, -0.2]
    assert "next_page_token" not in rest


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"min_bis": "nan"}, "#/min_bis"),
        ({"layer": -1}, "#/layer"),
        ({"architecture": "sae"}, "#/architecture"),
        ({"page_token": "ZmVhdHVyZXM6"}, "#/page_token"),
        ({"page_token": "!"}, "#/page_token"),
        ({"page_token": "\u0661"}, "#/page_token"),
    ],
)
def test_wrong_feature_filters_are_refused(shared, params, pointer):
    audit_id = shared.file()
    shared.succeed(audit_id)
    answer = shared.http.get(f"/audits/{audit_id}/features", params=params)
    assert answer.status_code == 422
    assert [item["pointer"] for item in answer.json()["errors"]] == [pointer]


def test_one_feature_is_read_by_its_id(shared):
    audit_id = shared.file()
    shared.succeed(audit_id)
    page = shared.http.get(f"/audits/{audit_id}/features").json()
    (row,) = page["features"]
    for path in (row["id"], row["id"].replace("/", "%2F")):
        assert shared.http.get(f"/audits/{audit_id}/features/{path}").json() == row
    for path in ("diff_sae/17/0/1", "diff_sae", "..%2Freport"):
        answer = shared.http.get(f"/audits/{audit_id}/features/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "feature_not_found")
    wrong = shared.http.post(f"/audits/{audit_id}/features/{row['id']}")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
