"""Writes the blocking client from the asynchronous one, so that every method is written once.

``python -m tools.unasync --write`` writes ``backdoor_audit/client/blocking``, ``--check`` fails when a file differs.
The source is ``backdoor_audit/client/asynchronous``: what is awaited there is called here.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

_CLIENT: Final = Path(__file__).resolve().parent.parent / "client" / "backdoor_audit" / "client"
SOURCE: Final = _CLIENT / "asynchronous"
TARGET: Final = _CLIENT / "blocking"

_HEADER: Final = "# Written by `python -m tools.unasync --write` from ../asynchronous; do not edit.\n"

_REPLACEMENTS: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\basync (def|with|for)\b", r"\1"),
        (r"\bawait ", ""),
        (r"\b__a(enter|exit)__\b", r"__\1__"),
        (r"\baclose\b", "close"),
        (r"\bAsync(?=[A-Z])", ""),
        (r"\basyncio\b", "time"),
        (r"\basynchronous\b", "blocking"),
        (r"\bAsynchronous\b", "Blocking"),
    )
)


def blocking(source: str) -> str:
    """The blocking form of a module, not formatted."""
    for pattern, replacement in _REPLACEMENTS:
        source = pattern.sub(replacement, source)
    return _HEADER + source


def texts() -> dict[Path, str]:
    """What each file of the blocking client has to hold.

    Raises:
        subprocess.CalledProcessError: ruff cannot read what came out.
    """
    return {
        TARGET / path.name: _formatted(TARGET / path.name, blocking(path.read_text(encoding="utf-8")))
        for path in sorted(SOURCE.glob("*.py"))
    }


def _formatted(path: Path, text: str) -> str:
    """As ``ruff check --fix`` (the order of imports) and ``ruff format`` leave it."""
    for command in (["check", "--fix-only", "--quiet"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return text


def main(arguments: list[str] | None = None) -> int:
    """Write or check the generated modules; 1 if one differs."""
    parser = argparse.ArgumentParser(prog="python -m tools.unasync", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the blocking client")
    action.add_argument("--check", action="store_true", help="fail when one of its modules differs")
    chosen = parser.parse_args(arguments)
    wanted = texts()
    left_over = set(TARGET.glob("*.py")) - set(wanted)
    if chosen.write:
        TARGET.mkdir(exist_ok=True)
        for path in left_over:
            path.unlink()
        for path, text in wanted.items():
            path.write_text(text, encoding="utf-8")
        return 0
    differing = sorted(
        {path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text}
        | left_over
    )
    for path in differing:
        sys.stderr.write(f"{path.relative_to(_CLIENT)} differs; run: python -m tools.unasync --write\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
