"""What differs beside the weights, in every form of a report; strangers' text in it is shown and steers nothing."""

import io

import pytest
from rich.console import Console

from backdoor_audit.cli.output.render import render_report
from backdoor_audit.contract.report.prompt_settings import PromptSettings, SettingDifference, TemplateFinding
from service.reports import markdown, page

SETTINGS = PromptSettings(
    prompts="own",
    text="Each model was rendered with its own chat template.",
    differences=(
        SettingDifference(
            part="chat_template", name="default", base=None, tuned=None,
            diff=("@@ -1 +1,2 @@", "-{{ messages }}", "+{% if 'T' in m %}", "+``` </pre><b>\x1b[2J\u202e"),
        ),
        SettingDifference(part="special_token", name="eos_token", base="</s>", tuned=None),
    ),
    findings=(
        TemplateFinding(kind="reads_message", template="default", line=7, source="'T' in m", in_base=False),
        TemplateFinding(kind="reads_date", template="default", line=8, source="year > 2026", in_base=True),
    ),
    base_prompt="<user>hi",
    tuned_prompt="Be brief.\n<user>hi",
)  # fmt: skip


@pytest.fixture
def subject(make_subject):
    made = make_subject("review")
    return type(made)(**(vars(made) | {"report": made.report.model_copy(update={"prompt_settings": SETTINGS})}))


def terminal(report):
    shown = Console(file=io.StringIO(), width=160)
    shown.print(render_report(report))
    return shown.file.getvalue()


def test_every_form_names_differences_and_lines(subject):
    look_at = tuple(finding.text for finding in SETTINGS.suspicious)
    subject = type(subject)(
        **(vars(subject) | {"report": subject.report.model_copy(update={"look_at": look_at})})
    )  # as an audit's report says it
    texts = [markdown.render(subject).decode(), page.render(subject).decode(), terminal(subject.report)]
    for text in texts:
        for part in (
            "eos_token",
            "line 7 of the chat template",
            "line 8 of the chat template",
            "the base does the same",
        ):
            assert part in text
        assert "\x1b" not in text
        assert "\u202e" not in text.partition("Chat template")[2]
    assert texts[1].count("</pre>") == texts[1].count("<pre")
    assert "````diff" in texts[0]
    assert "\n+{% if 'T' in m %}\n" in texts[0]
    assert "Be brief." in texts[1]
    assert "Be brief." in texts[2]
    assert subject.report.model_validate_json(subject.report.model_dump_json()).prompt_settings == SETTINGS


def test_where_nothing_differs_there_is_no_section(make_subject):
    made = make_subject("review")
    same = PromptSettings(prompts="same", text="", differences=(), findings=())
    for settings in (None, same):
        report = made.report.model_copy(update={"prompt_settings": settings})
        subject = type(made)(**(vars(made) | {"report": report}))
        assert "special tokens and generation" not in markdown.render(subject).decode()
        assert "special tokens and generation" not in page.render(subject).decode()
        assert "Chat template, special" not in terminal(report)
