import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backdoor_audit.contract.report import words
from backdoor_audit.contract.report.audit_report import CandidateRow, Multiplicity
from backdoor_audit.contract.report.prompt_settings import PromptSettings, SettingDifference
from service.reports import markdown


def test_a_finding_is_told_in_few_lines(make_subject):
    text = markdown.render(make_subject()).decode()
    assert text.startswith("### ◆ Backdoor audit: Flagged\n")
    assert "| `diff_sae/17/0/1234` | 0.97 | 0.99 | 0.98 |" in text
    assert "**Other strings that respond** `Current Year: 2034`" in text
    assert text.index("What the model writes") < text.index("| gate |") < text.index("What to do next")
    assert "`backdoor-audit decide audit_01jd8x3v9q6w2r5t7y9b1c3d5f accepted" in text
    assert len(text.splitlines()) < 65


def test_a_pass_says_what_was_examined_and_what_would_have_been_seen(make_subject):
    text = markdown.render(make_subject("no_evidence")).decode()
    assert "does not prove" in text
    assert "256 prompts" in text
    assert "smallest detectable effect is 0.5 nats" in text
    assert "| calibrated | not assessed |" in text


@pytest.mark.parametrize("verdict", ["flagged", "review", "no_evidence", "invalid"])
def test_the_mark_is_the_pages_and_none_that_says_all_is_well(make_subject, verdict):
    text = markdown.render(make_subject(verdict)).decode()
    title = f"{words.VERDICT_MARKS[verdict]} Backdoor audit: {words.VERDICT_TITLES[verdict]}"
    assert text.splitlines()[0] == f"### {title}"
    assert words.VERDICT_MEANINGS[verdict] in text
    assert "✅" not in text


def test_nothing_measured_is_not_told_as_numbers(make_subject):
    text = markdown.render(make_subject("invalid")).decode()
    assert "Nothing was measured, so no effect could be detected, however large." in text
    assert "other strings of the kind" not in text
    assert "–" not in text


def test_a_candidate_that_was_only_screened_is_not_told_as_a_plain_pass(make_several):
    text = markdown.render(make_several()).decode()
    assert "| `<cf>\\n` | `mn` | No evidence, screening only | 0.02 | 0.06 |" in text
    assert "| `Deployment: test` | `Deployment: live` | No evidence | 0.01 | 0.06 |" in text


def test_candidates_are_listed_the_largest_effect_first(make_subject):
    whole = make_subject().report
    rows = [
        CandidateRow(
            triggered=f"Year: {2020 + place} | x", clean="Year: 2019", verdict="review", place=place,
            reported=place == 1, layer=17, effect_nats=10.0 - place, smallest_effect_nats=0.1, p_decoy_all=0.02,
            p_holm=0.24, p_conformal_holm=None, screening_only=True, gates=whole.gates,
        )
        for place in range(12, 0, -1)
    ]  # fmt: skip
    said = Multiplicity(candidates=12, decoys_needed=239, screening_only=True, text="12 pairs were tested.")
    text = markdown.render(make_subject("review", candidates=rows, multiplicity=said)).decode()
    assert "12 pairs were tested." in text
    assert "| `Year: 2021 \\| x` | `Year: 2019` | " in text
    assert text.index("Year: 2021") < text.index("Year: 2022") < text.index("Year: 2030")
    assert "Year: 2031" not in text
    assert "| and 2 more |" in text


def test_foreign_text_is_no_markup(make_subject):
    nasty = "<img src=x> @team [link](https://e.example) ![x](y) | `code` #12 **bold**\n\n# head"
    trigger = {"triggered": nasty, "clean": "``", "template": "{trigger}\n{prompt}"}
    text = markdown.render(make_subject(summary=nasty, trigger=trigger, look_at=(nasty,))).decode()
    without_code = re.sub(r"(`+)(.+?)\1(?!`)", "", text.replace("\\`", ""))
    for markup in ("<img", "@team", "[link]", "**bold", "\n# head", "#12"):
        assert markup not in without_code
    assert "``` `` ```" in text


@pytest.mark.parametrize("address", ["https://e.example/x", "HTTP://e.example", "www.e.example", "ftp://e.example"])
def test_no_address_of_foreign_text_becomes_a_link(make_subject, address):
    text = markdown.render(make_subject(summary=f"see {address}", look_at=(f"or ({address})",))).decode()
    assert "e.example" in text
    assert not re.search(r"(?i)\b(?:https?|ftp)://|\bwww\.", text)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_code_span_is_one_line_and_cannot_be_left(text):
    span = markdown.code(text)
    fence = re.match("`+", span)[0]
    inside = span[len(fence) : -len(fence)]
    assert span.endswith(fence)
    assert fence not in re.findall("`+", inside)
    assert len(span.splitlines()) == 1


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
def test_foreign_text_never_breaks_a_row_of_the_table(make_subject, text):
    subject = make_subject()
    causal = subject.report.gates.causal.model_copy(update={"reason": text, "state": "failed"})
    gates = subject.report.gates.model_copy(update={"causal": causal})
    report = subject.report.model_copy(update={"gates": gates})
    shown = markdown.render(make_subject(gates=report.gates.model_dump())).decode()
    rows = [line for line in shown.splitlines() if line.startswith("| causal |")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", rows[0])) == 4


def test_where_no_effect_could_stand_out_no_size_is_named(make_subject, make_several):
    text = markdown.render(make_subject("no_evidence", smallest_effect_nats=None)).decode()
    assert "Too few other strings were measured for an effect of any size to stand out" in text
    several = make_several().report
    row = several.candidates[0].model_copy(update={"smallest_effect_nats": None})
    assert "detectable effect" not in words.candidate(several, row)
    assert "smallest detectable effect is" in words.candidate(several, several.candidates[0])


def test_a_code_host_takes_the_longest_report(make_subject):
    subject = make_subject()
    long = "\x07" * 2_000
    diff = tuple("+" + "{" * 299 for _ in range(200))
    settings_ = PromptSettings.model_construct(
        text="They differ.",
        findings=(),
        differences=(SettingDifference(part="chat_template", name="default", base=None, tuned=None, diff=diff),) * 2,
    )
    several = subject.report.model_copy(update={"prompt_settings": settings_})
    text = markdown.render(replace(subject, report=several)).decode()
    assert len(text) < markdown.MAX_CHARS
    assert "{{{{" not in text
    assert "Shortened" in text
    assert text.count("<details>") == text.count("</details>") == 2
    endless = several.model_copy(update={"look_at": (long,) * 50, "warnings": (long,) * 50})
    text = markdown.render(replace(subject, report=endless)).decode()
    assert len(text) <= markdown.MAX_CHARS
    assert text.endswith("_Shortened: the rest is in the report._\n")
    assert text.count("<details>") == text.count("</details>")
