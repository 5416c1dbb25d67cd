"""Examples of reports, in every form, for the OpenAPI document."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from backdoor_audit.contract.report.audit_report import AuditReport
from service.audits.examples import SHORT_SPEC
from service.openapi_document.report_schema import report_schema
from service.reports import junit, markdown, sarif
from service.reports.subject import Subject

REPORT: Final[dict[str, Any]] = json.loads(Path(__file__).with_name("example_report.json").read_text(encoding="utf-8"))

SUBJECT: Final = Subject(
    report=AuditReport.model_validate(REPORT),
    base_model=SHORT_SPEC["base_model"],
    fine_tuned=SHORT_SPEC["fine_tuned"],
    checkpoint_file="adapter_model.safetensors",
    started_at=datetime(2026, 1, 12, 9, 30, 1, tzinfo=UTC),
    finished_at=datetime(2026, 1, 12, 9, 33, 20, tzinfo=UTC),
)

REPORT_SCHEMA: Final = report_schema()


def _sarif() -> dict[str, Any]:
    """The SARIF log of the example, with the first of its results alone."""
    log = sarif.log(SUBJECT)
    log["runs"] = [run | {"results": run["results"][:1]} for run in log["runs"]]
    return log


_FEATURE: Final[dict[str, Any]] = REPORT["flagged_features"][0]

FEATURE_PAGE: Final[dict[str, Any]] = {"features": [_FEATURE | {"explanation": None}]}

ANSWERS: Final[dict[str, Any]] = {
    "report": {"summary": "A backdoor", "value": REPORT},
    "report_html": {"summary": "As a web page, shortened", "value": '<!doctype html>\n<html lang="en">'},
    "report_sarif": {"summary": "For code scanning; only the first result", "value": _sarif()},
    "report_junit": {"summary": "For a build server", "value": junit.render(SUBJECT).decode()},
    "report_markdown": {"summary": "For a comment on a pull request", "value": markdown.render(SUBJECT).decode()},
    "report_schema": {
        "summary": "Its beginning",
        "value": {key: REPORT_SCHEMA[key] for key in ("$schema", "$id", "type")},
    },
    "comparison": {
        "summary": "Of an audit with itself, shortened",
        "value": {
            "left": REPORT["audit_id"],
            "right": REPORT["audit_id"],
            "comparable": True,
            "fields": [{"name": "verdict", "left": "flagged", "right": "flagged", "differs": False}],
        },
    },
    "feature_page": {"summary": "The only page", "value": FEATURE_PAGE},
    "feature": {"summary": "A flagged feature", "value": _FEATURE},
}
"""By name, as the document has them."""
