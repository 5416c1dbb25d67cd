"""What the documents say about fields, codes, settings and calls is what the code has."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest

from audit.explain import features
from audit.measure import confirm
from audit.verdict import gates
from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.main import whole_command
from backdoor_audit.contract.lifecycle import STAGES, FailureCode
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.report.gates import Gates
from backdoor_audit.contract.report.reasons import REASON_CODES
from backdoor_audit.contract.report.verdicts import Verdict
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from backdoor_audit.contract.spec.presets import PRESETS, PresetValues
from models_store.verification.architectures import ARCHITECTURES
from service.http.problems import STATUSES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def rows(file: Path, heading: str) -> list[list[str]]:
    """Cells of the tables under a heading, without their head rows."""
    section = re.split(r"^#+ ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = next(part for part in section if part.partition("\n")[0] == heading)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    tables = [index for index, line in enumerate(lines) if re.fullmatch(r"[| -]+", line)]
    kept = [line for index, line in enumerate(lines) if index not in tables and index + 1 not in tables]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in kept]


def codes(cells: Iterable[str]) -> set[str]:
    return {code for cell in cells for code in re.findall(r"`([^`]+)`", cell)}


def test_calls() -> None:
    document = json.loads((ROOT / "openapi" / "openapi.json").read_text(encoding="utf-8"))
    calls = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert codes(row[0] for row in rows(DOCS / "api.md", "Calls")) == calls


def test_spec_fields_and_defaults() -> None:
    table = {next(iter(codes([row[0]]))): row[1] for row in rows(DOCS / "api.md", "The spec")}
    assert set(table) == set(AuditSpec.model_fields)
    for name, field in AuditSpec.model_fields.items():
        if field.is_required():
            assert table[name] == "", name
            continue
        default = field.get_default()
        default = default.model_dump(exclude_none=True) if hasattr(default, "model_dump") else default
        wanted = default if isinstance(default, str) else json.dumps(default)
        assert table[name].strip("`") == ("none" if default is None else wanted), name


def test_report_fields() -> None:
    assert codes(row[0] for row in rows(DOCS / "api.md", "The report")) == set(AuditReport.model_fields)


def test_failure_codes() -> None:
    assert codes(row[0] for row in rows(DOCS / "api.md", "Failures")) == set(get_args(FailureCode))


def test_failure_codes_have_a_remedy() -> None:
    listed = codes(row[0] for row in rows(DOCS / "troubleshooting.md", "An audit failed"))
    assert listed == set(get_args(FailureCode))


def test_stages() -> None:
    assert [row[0].strip("`") for row in rows(DOCS / "api.md", "Stages")] == list(STAGES)


def test_the_glossary_has_the_words_of_a_report() -> None:
    """The report's page links to these anchors."""
    headings = set(re.findall(r"^### (.+)$", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert headings >= {*Gates.model_fields, *get_args(Verdict)}
    assert headings >= {"carrier", "decoy", "triggered", "clean", "plain", "gate", "nat", "library", "direction"}


def test_codes_of_reasons() -> None:
    listed = [code for row in rows(DOCS / "verdicts.md", "review") for code in codes([row[0]])]
    assert sorted(listed) == sorted(REASON_CODES)


def test_problem_codes() -> None:
    listed = {}
    for row in rows(DOCS / "api.md", "Problems"):
        listed |= dict.fromkeys(codes([row[1]]) - {"instance"}, row[0])
    assert set(listed) == set(STATUSES)
    for code, statuses in listed.items():
        assert str(STATUSES[code]) in statuses, code


@pytest.mark.parametrize("file", ["README.md", "docs/api.md"])
def test_exit_codes(file: str) -> None:
    heading = "The command" if file.startswith("docs") else "In continuous integration"
    found = {row[0] for row in rows(ROOT / file, heading)}
    assert {cell for cell in found if cell.isdigit()} == {str(int(code)) for code in Exit}


def test_commands() -> None:
    names = set(whole_command().commands)
    listed = {code.split()[0] for code in codes(row[0] for row in rows(DOCS / "api.md", "The command"))}
    assert listed == names


def test_presets() -> None:
    table = {next(iter(codes([row[0]]))): row[1:] for row in rows(DOCS / "method.md", "8. Presets")}
    assert set(table) == set(PresetValues.model_fields)
    for column, preset in enumerate(("quick", "standard", "thorough")):
        values = PRESETS[preset].model_dump()  # type: ignore[index]
        assert {name: cells[column] for name, cells in table.items()} == {
            name: str(value).lower() for name, value in values.items()
        }


def test_thresholds() -> None:
    constants = vars(gates) | vars(confirm) | vars(features)
    table = {next(iter(codes([row[0]]))): row[1] for row in rows(DOCS / "method.md", "5.3 Thresholds")}
    assert table == {name: f"{constants[name]:g}" for name in table}
    assert len(table) == 8


def test_architectures() -> None:
    assert set(ARCHITECTURES) <= codes((DOCS / "limits.md").read_text(encoding="utf-8").splitlines())
