"""Return whether two reports have the same figures, to the last digit.

``python -m tools.compare_reports OLD.json NEW.json`` compares every number, null, choice and measured string, and exits
with 1 and the paths that differ where any is not the same. What may differ: the audit's id, seconds, memory, use of the
cache, versions, and prose. These say when, with what and in which words a figure was found.
"""

import json
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from tools.differences import report

IGNORED: Final = (
    r"audit_id",
    r"(schema|method)_version",
    r"provenance\.(versions|timings_s)(\..*)?",
    r"provenance\.(peak_memory_bytes|cache_hits|cache_misses)",
    r"summary",
    r"(look_at|not_assessed|warnings|limits)\[[0-9]+\]",
    r"gates\.[a-z]+\.reason",
    r"(multiplicity|power)\.text",
    r"localisation\.note",
)
"""Paths of what is no figure, as regular expressions for the whole path."""

_IGNORED: Final = re.compile("|".join(IGNORED))


def figures(report: Any) -> dict[str, Any]:
    """Every figure of a report by its path."""
    return {path: value for path, value in _leaves(report, "") if not _IGNORED.fullmatch(path)}


def differences(old: Any, new: Any) -> list[str]:
    """The figures that are not the same, one line each."""
    left, right = figures(old), figures(new)
    lines = [f"{path}: {_text(left[path])} is gone" for path in left if path not in right]
    lines += [f"{path}: {_text(right[path])} is new" for path in right if path not in left]
    lines += [
        f"{path}: {_text(left[path])} is now {_text(right[path])}"
        for path in left
        if path in right and _text(left[path]) != _text(right[path])
    ]
    return lines


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _leaves(part, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for place, part in enumerate(value):
            yield from _leaves(part, f"{path}[{place}]")
    else:
        yield path, value


def _text(value: Any) -> str:
    """A value as it stands in the file: 1 and 1.0 differ, and so do 0.1 and 0.10."""
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def read(path: Path) -> Any:
    """A report with its numbers as they are written."""
    return json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)


def main(arguments: list[str] | None = None) -> int:
    """Compare two reports; 1 if a figure differs."""
    return report(
        "python -m tools.compare_reports",
        __doc__,
        arguments,
        read=lambda path: read(Path(path)),
        differences=differences,
        agreement=lambda new: f"All {len(figures(new))} figures are the same.",
    )


if __name__ == "__main__":
    sys.exit(main())
