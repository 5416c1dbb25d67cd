"""Every test that ``docs/reliability.md`` names is there, and every row of the fault matrix is in it."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def names_in(folder: Path) -> set[str]:
    return {
        name
        for file in folder.rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
    }


def test_named_tests_and_files_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert named
    assert named <= names_in(ROOT / "tests")
    for file in re.findall(r"`(tests/[\w/]+\.py)`", TEXT):
        assert (ROOT / file).is_file(), file


def test_every_row_is_listed_under_its_number() -> None:
    rows = dict(re.findall(r"^\| (\d+) \|.*\| `(test_row_\w+)` \|$", TEXT, re.MULTILINE))
    assert set(rows.values()) == {name for name in names_in(ROOT / "tests" / "faults") if name.startswith("test_row_")}
    for number, name in rows.items():
        assert name.startswith(f"test_row_{int(number):02}_"), name
