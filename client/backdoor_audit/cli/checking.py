"""Checks a checkpoint's folder on this machine by the server's own rules, if the server is installed."""

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from backdoor_audit.contract.text.foreign_text import visible

ENTRY_POINTS: Final = "backdoor_audit.checks"


def check(folder: Path, base: Path | None = None, fix_into: Path | None = None) -> dict[str, Any] | None:
    """What the server says about a folder; None if it is not installed here.

    Raises:
        OSError: ``fix_into`` cannot be written.
    """
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS, name="checkpoint"):
        result: dict[str, Any] = entry_point.load()(folder, base, fix_into)
        return result
    return None


def lines(folder: Path, result: dict[str, Any]) -> Iterator[str]:
    """The result in readable form."""
    yield f"{visible(str(folder))}: {'accepted' if result['accepted'] else 'refused'} ({visible(result['summary'])})"
    for problem in result["problems"]:
        yield f"  problem: {visible(problem['message'])}"
        yield f"    to fix it: {visible(problem['command'])}"
    for warning in result["warnings"]:
        yield f"  warning: {visible(warning)}"
    for note in result["rewritten"]:
        yield f"  rewritten: {visible(note)}"
    for name in result["ignored"]:
        yield f"  ignored: {visible(name)}"
