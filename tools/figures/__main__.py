"""Fills figures and tables in the documentation from the committed records and from the code.

A figure stands between two markers::

    <!-- figures: NAME -->
    a table or a sentence
    <!-- end -->

or, within a line, ``<!-- figures: NAME -->19 of 19<!-- end -->``. The prose around it is free.
``python -m tools.figures --write`` fills all of them, ``--check`` fails where the records give something else, and
``--list`` prints every name with its value.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tools.figures import base_effect, detection, durations, rooms

ROOT: Final = Path(__file__).resolve().parents[2]
PLACES: Final = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "benchmarks/**/README.md")
WIDTH: Final = 110

_OPENING: Final = re.compile(r"<!-- figures: .*? -->")
_FIGURE: Final = re.compile(r"(<!-- figures: (\S+) -->)((?:(?!<!-- figures: ).)*?)(<!-- end -->)", re.DOTALL)
# A line that begins with a comment is HTML to a reader of Markdown, to its end.
_BEGINS_LINE: Final = re.compile(r"[\s>*+-]*")


class BadMarker(ValueError):
    """A marker names no figure, or is not closed."""


def figures() -> dict[str, str]:
    """Every figure by its name, as Markdown."""
    return {**detection.figures(), **durations.figures(), **base_effect.figures(), **rooms.figures()}


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with the figures in place.

    Raises:
        BadMarker: a name is unknown, or an opening marker has no end.
    """

    def fill(found: re.Match[str]) -> str:
        opening, name, before, end = found.groups()
        if name not in values:
            raise BadMarker(f"no figure is named {name}; python -m tools.figures --list prints the names")
        line = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
        if before.startswith("\n"):
            return "\n".join([opening, *_indented(values[name], line), line + end])
        if _BEGINS_LINE.fullmatch(line):
            raise BadMarker(f"{name} begins a line; put a word before it, or its markers on lines of their own")
        return f"{opening}{values[name]}{end}"

    done, count = _FIGURE.subn(fill, text)
    if count != len(_OPENING.findall(text)):
        raise BadMarker("an opening marker has no <!-- end -->")
    return done


def _indented(value: str, indent: str) -> list[str]:
    lines = value.splitlines() if value.startswith("|") else textwrap.wrap(value, WIDTH, break_on_hyphens=False)
    return [indent + line for line in lines]


def pages(root: Path) -> Iterator[Path]:
    """The files that may hold figures."""
    for pattern in PLACES:
        yield from sorted(root.glob(pattern))


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Write or check the figures; 1 if one differs or a marker is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="fill the figures")
    action.add_argument("--check", action="store_true", help="fail where a figure differs from the records")
    action.add_argument("--list", action="store_true", help="print every figure with its name")
    chosen = parser.parse_args(arguments)
    values = figures()
    if chosen.list:
        sys.stdout.writelines(f"{name}:\n{textwrap.indent(value, '    ')}\n" for name, value in values.items())
        return 0
    wrong = False
    for path in pages(root):
        text = path.read_text(encoding="utf-8")
        try:
            wanted = filled(text, values)
        except BadMarker as error:
            sys.stderr.write(f"{path.relative_to(root)}: {error}\n")
            wrong = True
            continue
        if wanted == text:
            continue
        if chosen.write:
            path.write_text(wanted, encoding="utf-8")
        else:
            sys.stderr.write(f"{path.relative_to(root)}: a figure differs; run: python -m tools.figures --write\n")
            wrong = True
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
