"""Files that a script writes, and writes the same each time: a benchmark's plan, fixed before anything is measured."""

import argparse
import sys
from pathlib import Path


def write_or_check(place: Path, text: str, description: str | None, argv: list[str] | None = None) -> int:
    """Write ``text`` to ``place``; with ``--check``, only compare.

    Returns:
        The exit status: 1 if ``--check`` finds another file or none.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the file differs")
    if parser.parse_args(argv).check:
        if not place.is_file() or place.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{place.name} is not what this script writes\n")
            return 1
        return 0
    place.write_text(text, encoding="utf-8")
    return 0
