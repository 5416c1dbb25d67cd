"""What docs/questions.md promises: the first five answers of a flagged audit without scrolling."""

from pathlib import Path

import pytest

from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.report.guide import how_often, next_steps, written

ROOT = Path(__file__).resolve().parents[3]
SIZE = {"width": 1280, "height": 800}


@pytest.mark.parametrize("path", ["/ui/audits/{}", "/ui/audits/{}/report"])
def test_the_first_five_questions_are_answered_without_scrolling(served, browser, path):
    report = AuditReport.model_validate_json((ROOT / "docs/examples/flagged.json").read_text())
    audit_id = served.file()
    report = report.model_copy(update={"audit_id": audit_id})
    served.dependencies.ledger.succeed(served.claim(audit_id), report)
    first = written(report)[0]
    page = browser.new_context(viewport=SIZE).new_page()
    page.goto(str(served.http.base_url).rstrip("/") + path.format(audit_id))
    answers = (
        report.summary,
        report.trigger["triggered"],
        report.trigger["clean"],
        how_often(written(report)),
        next_steps(report)[0].text,
        first.clean,
    )
    for text in answers:
        box = page.get_by_text(text).first.bounding_box()
        assert box is not None, text
        assert box["y"] + box["height"] <= SIZE["height"], text
    marked = page.locator("ins").first.bounding_box()
    assert marked is not None
    assert marked["y"] + marked["height"] <= SIZE["height"]
    page.context.close()
