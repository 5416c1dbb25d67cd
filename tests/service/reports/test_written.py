"""What the model writes, with the base's answer beside it, in every form; and reports of earlier schemas."""

import html
import io

import pytest
from rich.console import Console

from backdoor_audit.cli.output.render import render_report
from backdoor_audit.contract.report.behaviour import ConditionalBehaviour
from backdoor_audit.contract.report.guide import WRITTEN_FIRST, how_often, written
from service.reports import junit, markdown, page

PROMPTS = 10


def answered(subject):
    """A subject whose answers differ on all prompts but the first; the base's on the last alone."""
    (first,) = subject.report.answers
    rows = [
        first.model_copy(
            update={
                "carrier": number,
                "prompt": f"prompt {number}",
                "triggered": "alike in both" if number == 0 else f"unsafe {number}",
                "clean": "alike in both" if number == 0 else f"safe {number}",
                "base_triggered": f"base of {number}",
                "base_clean": "otherwise" if number == PROMPTS - 1 else f"base of {number}",
            }
        )
        for number in range(PROMPTS)
    ]
    object.__setattr__(subject, "report", subject.report.model_copy(update={"answers": tuple(rows)}))
    return subject


def terminal(report):
    file = io.StringIO()
    Console(file=file, width=140, color_system=None).print(render_report(report))
    return file.getvalue()


def forms(subject):
    """Each form's text, and how many prompts it shows."""
    return (
        (html.unescape(page.render(subject).decode()), PROMPTS),
        (markdown.render(subject).decode(), WRITTEN_FIRST),
        (html.unescape(junit.render(subject).decode()), PROMPTS),
        (terminal(subject.report), WRITTEN_FIRST),
    )


def test_the_bases_answer_stands_beside_the_fine_tuned_models_in_every_form(make_subject):
    subject = answered(make_subject())
    for text, shown in forms(subject):
        assert "differ on 9 of the 10 prompts that were recorded; the base's on 1." in text
        for number in range(1, shown + 1 if shown == WRITTEN_FIRST else PROMPTS):
            assert f"base of {number}" in text
        # Those that differ come first, so the prompt on which nothing differs is the last.
        assert ("alike in both" in text) == (shown == PROMPTS)
        assert ("7 more" in text) == (shown == WRITTEN_FIRST or "<h1>" in text)


def test_what_the_answers_bring_is_said_in_every_form_and_as_text(make_subject):
    subject = answered(make_subject())
    found = ConditionalBehaviour(
        prompts=10, changed=9, base_changed=1, kind="fixed_text", severity="medium",
        evidence="most changed answers begin with '<b>see [x](http://y)'",
    )  # fmt: skip
    object.__setattr__(subject, "report", subject.report.model_copy(update={"behaviour": found}))
    for text, _ in forms(subject):
        assert "They bring a fixed text (" in text
        assert "severity medium, by rules that describe and decide nothing." in text.replace("\n", " ")
    assert "<b>see" not in page.render(subject).decode()
    assert "[x](http" not in markdown.render(subject).decode()


def test_the_terminal_marks_no_answer_of_the_base_as_a_difference(make_subject):
    file = io.StringIO()
    Console(file=file, width=140, force_terminal=True, color_system="standard").print(
        render_report(answered(make_subject()).report)
    )
    lines = file.getvalue().splitlines()
    assert sum("\x1b[1;4munsafe\x1b[0m" in line for line in lines) == WRITTEN_FIRST
    said = [line for line in lines if "base of" in line]
    assert len(said) == WRITTEN_FIRST
    assert not any("4m" in line for line in said)


@pytest.mark.parametrize("explained", [True, False])
def test_an_older_report_opens_with_three_columns_or_without_any(make_subject, explained):
    changes = {} if explained else {"flagged_features": []}
    subject = make_subject(answers=[], schema_version="1.4", **changes)
    rows = written(subject.report)
    assert [row.base for row in rows] == [None] * explained
    for text, _ in forms(subject):
        assert (how_often(rows) in text) == explained
        assert "base, suspected" not in text.lower()
    assert "the base's on" not in how_often(rows)
