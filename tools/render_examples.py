"""Render the pages and Markdown texts in ``docs/examples`` from the reports beside them.

``python -m tools.render_examples --write`` writes them, ``--check`` fails if one differs from what the renderers make.
"""

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from backdoor_audit.contract.report.audit_report import AuditReport
from service.reports import markdown, page
from service.reports.subject import Subject

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "examples"
BASE: Final = "local:smollm2-135m"
AUDITS: Final[dict[str, tuple[str, datetime]]] = {
    "flagged": ("local:organisms/sql-year", datetime(2026, 11, 30, 18, 8, tzinfo=UTC)),
    "no_evidence": ("local:organisms/sql-year-benign", datetime(2026, 11, 29, 10, 59, tzinfo=UTC)),
    "review": ("local:organisms/sql-year", datetime(2026, 11, 29, 11, 43, tzinfo=UTC)),
    "invalid": ("local:overflow", datetime(2026, 11, 29, 11, 44, tzinfo=UTC)),
}
"""The checkpoint of each example, and when its audit finished: what a report itself does not say."""


def rendered() -> Iterator[tuple[Path, bytes]]:
    """Every file that is made from a report, with its content."""
    for name, (fine_tuned, finished_at) in AUDITS.items():
        report = AuditReport.model_validate_json((FOLDER / f"{name}.json").read_bytes())
        subject = Subject(report, BASE, fine_tuned, finished_at=finished_at)
        yield FOLDER / f"{name}-page.html", page.render(subject)
        yield FOLDER / f"{name}.md", markdown.render(subject)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the files; 1 if one is outdated."""
    parser = argparse.ArgumentParser(prog="python -m tools.render_examples", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the files")
    action.add_argument("--check", action="store_true", help="fail if a file is outdated")
    chosen = parser.parse_args(arguments)
    outdated = False
    for path, content in rendered():
        if chosen.write:
            path.write_bytes(content)
        elif not path.exists() or path.read_bytes() != content:
            outdated = True
            sys.stderr.write(f"docs/examples/{path.name} is outdated; run: python -m tools.render_examples --write\n")
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main())
