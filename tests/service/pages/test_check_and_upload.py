"""Checking a form before it is submitted, and uploading a folder from the browser: real models and a real Chromium."""

import json

import pytest

from tests.service.pages.test_page_forms import fault
from tests.service.pages.test_pages import FORM, post, served_with_keys
from tests.tiny import write_model

__all__ = ["served_with_keys"]
MODELS = {"base_model": "local:base", "fine_tuned": "local:adapter", "template": "{trigger}\n{prompt}"}
CHECK = FORM | MODELS | {"check": "yes"}


@pytest.fixture
def with_models(serve, toy_models):
    return serve(models_root=toy_models)


def test_a_check_says_what_an_audit_takes_and_submits_nothing(with_models):
    page = post(with_models, "/ui/new", CHECK | {"labels": "team=red"}).text
    assert "Nothing that can be seen here stands in the way" in page
    assert "at most 2,424" in page
    assert "its time is not known" in page
    assert "exact tokens" in page
    assert 'value="local:adapter"' in page
    assert ">team=red</textarea>" in page
    assert with_models.dependencies.ledger.list().audits == ()
    post(with_models, "/ui/new", FORM | MODELS)
    with_models.succeed(with_models.dependencies.ledger.list().audits[0].id)
    assert "Takes about 0 s" in post(with_models, "/ui/new", CHECK).text


def test_a_check_names_what_stands_in_the_way_at_its_field(with_models):
    answer = post(with_models, "/ui/new", CHECK | {"fine_tuned": "local:adaptor"})
    assert answer.status_code == 422
    assert "An audit like this would be refused" in answer.text
    assert "did you mean local:adapter" in fault(answer.text, "fine_tuned")
    layers = post(with_models, "/ui/new", CHECK | {"layers": "0, 9"}).text
    assert "is no layer of the base" in fault(layers, "layers")
    assert with_models.dependencies.ledger.list().audits == ()


def test_what_no_worker_has_fetched_cannot_be_checked_and_can_be_submitted(serve, toy_models):
    served = serve(models_root=toy_models, allowed_organisations="org")
    hub = {"base_model": f"hf:org/name@{'a' * 40}"}
    answer = post(served, "/ui/new", CHECK | hub)
    assert answer.status_code == 422
    assert "would be refused" not in answer.text
    assert "cannot be checked here" in answer.text
    assert served.dependencies.ledger.list().audits == ()
    assert post(served, "/ui/new", FORM | MODELS | hub).status_code == 303


def test_labels_are_lines_and_a_line_without_a_value_is_a_fault(served):
    wrong = post(served, "/ui/new", FORM | {"labels": "team"})
    assert wrong.status_code == 422
    assert fault(wrong.text, "labels")
    filed = post(served, "/ui/new", FORM | {"labels": "team=red\n\nurl=a=b"})
    (audit,) = served.dependencies.ledger.list().audits
    assert audit.spec.labels == {"team": "red", "url": "a=b"}
    again = served.http.get(f"/ui/new?like={filed.headers['Location'].rpartition('/')[2]}").text
    assert ">team=red\nurl=a=b</textarea>" in again
    assert "was not copied" not in again


def test_each_picker_offers_what_can_stand_there(with_models):
    page = with_models.http.get("/ui/new").text
    bases, tuned = (page.split(f'<datalist id="{name}">')[1].split("</datalist>")[0] for name in ("bases", "models"))
    assert "local:base" in bases
    assert "local:adapter" not in bases
    assert '<option value="local:adapter">LoRA adapter' in tuned


def test_a_folder_is_uploaded_in_the_browser_and_named_in_the_form(browser, served, tmp_path):
    folder = write_model(tmp_path / "My Fine-tune")
    (folder / "optimizer.pt").write_bytes(b"never sent")
    (folder / "runs").mkdir()
    (folder / "runs" / "events.json").write_text("{}")
    page = browser.new_page()
    complaints, asked = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{served.http.base_url}/ui/new")
    page.click("[data-upload] summary")
    page.set_input_files("#folder", folder)
    page.click("[data-upload] button")
    page.wait_for_selector("text=Uploaded as store:my-fine-tune-", timeout=30_000)
    reference = page.input_value("#fine_tuned")
    assert reference in {model.reference for model in served.dependencies.models.list() if model.kind == "full"}
    assert "of 5 files; no model is read from the others" in page.inner_text("[data-upload] [role=status]")
    assert not any("optimizer" in url or "events" in url for url in asked)
    assert complaints == []
    page.close()


def test_a_folder_that_is_refused_says_why_and_leaves_the_form_alone(browser, served, tmp_path):
    folder = write_model(tmp_path / "broken")
    config = json.loads((folder / "config.json").read_text()) | {"hidden_size": 999}
    (folder / "config.json").write_text(json.dumps(config))
    page = browser.new_page()
    page.goto(f"{served.http.base_url}/ui/new")
    page.click("[data-upload] summary")
    page.click("[data-upload] button")
    page.wait_for_selector("text=Not uploaded: choose a folder first")
    page.set_input_files("#folder", folder)
    page.click("[data-upload] button")
    page.wait_for_selector("text=/^Not uploaded: (?!choose)/")
    assert "config.json" in page.inner_text("[data-upload] [role=status]")
    assert page.input_value("#fine_tuned") == ""
    page.close()


def test_uploads_ask_who_comes(served_with_keys, tmp_path):
    served, _, reader = served_with_keys
    calls = [("POST", "/ui/uploads"), ("PUT", "/ui/uploads/x/files/config.json"), ("POST", "/ui/uploads/x/commit")]
    for method, path in calls:
        assert served.http.request(method, path).status_code == 401
        only_reads = {"Cookie": f"backdoor_audit_key={reader}"}
        assert served.http.request(method, path, headers=only_reads).json()["code"] == "missing_scope"
        elsewhere = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        assert served.http.request(method, path, headers=elsewhere).json()["code"] == "cross_site"
    assert served.dependencies.models.list() == []
