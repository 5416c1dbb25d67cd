"""What the commands that compare two files have in common: ``tools.compare_openapi`` and ``tools.compare_reports``."""

import argparse
import sys
from collections.abc import Callable
from typing import Any


def report(
    program: str,
    description: str | None,
    arguments: list[str] | None,
    *,
    read: Callable[[str], Any],
    differences: Callable[[Any, Any], list[str]],
    agreement: Callable[[Any], str],
    source: str = "a file",
) -> int:
    """Compare the two files that ``arguments`` name and write a line for each difference.

    Args:
        program: the command, for its help.
        description: what it does, for its help.
        arguments: of the command line; None for this process's own.
        read: turns one argument into what is compared.
        differences: one line for each.
        agreement: the line for two files that agree, made from the new one.
        source: what an argument may be, for the help.

    Returns:
        The exit status: 1 if the two differ.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("old", help=source)
    parser.add_argument("new", help=source)
    chosen = parser.parse_args(arguments)
    new = read(chosen.new)
    lines = differences(read(chosen.old), new)
    for line in lines or [agreement(new)]:
        sys.stdout.write(f"{line}\n")
    return 1 if lines else 0
