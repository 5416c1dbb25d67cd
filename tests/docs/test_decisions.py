"""Every decision says when it was made and where it stands, and the list has all of them in order."""

import re
from datetime import date
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "decisions"
FILES = sorted(FOLDER.glob("[0-9]*.md"))
HEAD = re.compile(r"# (?P<number>\d{4}): (?P<title>.+)\n\n\*(?P<date>\d{4}-\d\d-\d\d), (?P<status>[^*]+)\*\n\n")
STATUS = re.compile(r"(accepted|superseded by \d{4})(; ((amended|refined) by|supersedes) \d{4}(, \d{4})*)?")


def row(file: Path) -> str:
    head = HEAD.match(file.read_text(encoding="utf-8"))
    assert head, f"{file.name} begins with its title, then *date, status* on a line of its own"
    return f"| [{head['number']}]({file.name}) | {head['title']} | {head['date']} | {head['status']} |"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_decision_has_number_date_and_status(file: Path) -> None:
    row(file)
    head = HEAD.match(file.read_text(encoding="utf-8"))
    assert head
    assert file.name.startswith(f"{head['number']}-")
    assert date.fromisoformat(head["date"]) <= date.today()
    assert STATUS.fullmatch(head["status"]), head["status"]
    for number in re.findall(r"\d{4}", head["status"]):
        assert list(FOLDER.glob(f"{number}-*.md")), number


def test_numbers_are_used_once() -> None:
    assert len({file.name[:4] for file in FILES}) == len(FILES)


def test_the_list_has_every_decision_in_order() -> None:
    listed = [
        line for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| [")
    ]
    assert listed == [row(file) for file in FILES]
