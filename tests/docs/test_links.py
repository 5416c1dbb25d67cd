"""Every relative link in the Markdown files leads somewhere, headings included, and their lines are short."""

import re
from pathlib import Path
from typing import get_args

import pytest

from backdoor_audit.contract.report.verdicts import Verdict

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
ROOMS = ("docs", "client", "examples")
FILES = sorted([*ROOT.glob("*.md"), *(path for room in ROOMS for path in ROOT.glob(f"{room}/**/*.md"))])
GENERATED = ("docs/reference/", "examples/organisms/", *(f"docs/examples/{name}.md" for name in get_args(Verdict)))
WRITTEN = [path for path in FILES if not path.relative_to(ROOT).as_posix().startswith(GENERATED)]
LONGEST_LINE = 120


def links_of(text: str) -> list[str]:
    return [link for link in LINK.findall(FENCE.sub("", text)) if not re.match(r"[a-z]+:", link)]


def anchors_of(text: str) -> set[str]:
    """The ids that a forge gives to headings."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(file: Path) -> list[str]:
    found = []
    for link in links_of(file.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (file.parent / path) if path else file
        there = target.exists() and target.resolve().is_relative_to(ROOT)
        if not there or (anchor and anchor not in anchors_of(target.read_text(encoding="utf-8"))):
            found.append(link)
    return found


def test_there_are_documents() -> None:
    assert ROOT / "README.md" in FILES
    assert ROOT / "docs" / "method.md" in FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file: Path) -> None:
    assert broken(file) == []


def test_a_broken_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "there.md").write_text("# A heading: with, signs\n")
    document = tmp_path / "document.md"
    document.write_text(
        "[a](there.md) [b](there.md#a-heading-with-signs) [c](missing.md) [d](there.md#none) [e](https://example.org/x)\n"
        "```\n[f](in-a-fence.md)\n```\n"
    )
    assert broken(document) == ["missing.md", "there.md#none"]


def too_long(text: str) -> list[str]:
    """Lines of prose that are too long; the rows of tables and what stands in fences cannot be broken."""
    lines = FENCE.sub("", text).splitlines()
    return [line for line in lines if len(line) > LONGEST_LINE and not line.lstrip().startswith("|")]


@pytest.mark.parametrize("file", WRITTEN, ids=lambda file: str(file.relative_to(ROOT)))
def test_lines_of_prose_are_short(file: Path) -> None:
    assert too_long(file.read_text(encoding="utf-8")) == []


def test_a_long_line_is_found() -> None:
    long = "word " * 30
    assert too_long(f"short\n{long}\n| {long} |\n```\n{long}\n```\n") == [long]


NAMED = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|json|svg|toml|yml|yaml|sh|txt|jsonl|lock))`")
MADE_BY_COMMANDS = {"benchmarks/results/devices.json"}  # `python -m benchmarks.devices`, which needs a GPU


def named_files(text: str) -> set[str]:
    """Files of this repository that a text names by their path from its root."""
    return {name for name in NAMED.findall(text) if (ROOT / name.partition("/")[0]).is_dir()}


@pytest.mark.parametrize("file", WRITTEN, ids=lambda file: str(file.relative_to(ROOT)))
def test_named_files_exist(file: Path) -> None:
    missing = {name for name in named_files(file.read_text(encoding="utf-8")) if not (ROOT / name).is_file()}
    assert missing - MADE_BY_COMMANDS == set()


def test_a_file_that_is_gone_is_found() -> None:
    text = "`docs/method.md` is no code, `docs/gone.json` is named, `other/gone.json` is not ours"
    assert named_files(text) == {"docs/gone.json"}
