"""The reference pages are those that the code gives, and the code says something of everything in them."""

import re
from pathlib import Path

import pytest

from backdoor_audit import AsyncAuditClient, AuditClient
from backdoor_audit.cli.main import whole_command
from service.openapi_document.report_schema import report_schema
from service.settings import Settings
from tools import reference
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {path.name: text for path, text in reference.texts().items()}


def test_committed_pages_are_those_of_the_code(capsys, tmp_path, monkeypatch):
    assert reference.main(["--check"]) == 0
    monkeypatch.setattr(reference, "DOCS", tmp_path)
    assert reference.main(["--check"]) == 1
    assert "--write" in capsys.readouterr().err
    assert reference.main(["--write"]) == 0
    assert reference.main(["--check"]) == 0


@pytest.mark.parametrize("settings", [Settings, WorkerSettings])
def test_every_setting_is_there_and_explained(settings):
    rows = [line.split(" | ") for line in TEXTS["settings.md"].splitlines() if line.startswith("| `")]
    meanings = {row[0].strip("| `"): row[-1].strip("| ") for row in rows}
    for name in settings.model_fields:
        assert meanings[name.upper()], name


def test_every_variable_that_the_code_names_is_in_the_pages():
    named = {
        name
        for room in ("client", "service", "worker")
        for file in (ROOT / room).rglob("*.py")
        for name in re.findall(r"BACKDOOR_AUDIT_([A-Z_]*[A-Z])", file.read_text(encoding="utf-8"))
    }
    assert {"URL", "API_KEY", "DATA_DIR"} <= named
    for name in named:
        assert f"`{name}`" in TEXTS["settings.md"] or f"`BACKDOOR_AUDIT_{name}`" in TEXTS["settings.md"], name


def test_every_command_and_option_is_there():
    headings = set(re.findall(r"^#+ `(.+)`$", TEXTS["command.md"], re.MULTILINE))

    def walk(command, name):
        assert name in headings
        for option in (text for param in command.params for text in param.opts if text.startswith("--")):
            assert option in TEXTS["command.md"], option
        for each in getattr(command, "commands", {}).values():
            walk(each, f"{name} {each.name}")

    walk(whole_command(), "backdoor-audit")


def test_every_kind_of_object_and_every_field_of_a_report_is_there():
    schema = report_schema()
    for name, part in ({"AuditReport": schema} | schema["$defs"]).items():
        section = TEXTS["report.md"].partition(f"## {name}\n")[2].partition("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(part["properties"]), name


def test_every_method_of_the_client_is_there():
    methods = {name for name in vars(AuditClient) if not name.startswith("_")}
    assert methods - {name for name in vars(AsyncAuditClient) if not name.startswith("_")} == set()
    headings = re.findall(r"^## (\w+)$", TEXTS["python.md"], re.MULTILINE)
    assert set(headings) == methods | {"AuditClient", "Errors"}
    assert " at 0x" not in TEXTS["python.md"]
