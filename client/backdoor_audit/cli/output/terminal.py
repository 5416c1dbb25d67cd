"""A command's two streams: results on standard output, messages on standard error."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, RenderableType

from backdoor_audit.client.errors import WrongUsage


def out() -> Console:
    """Standard output; where that is no terminal, wide enough for every table."""
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def err() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False)


def say(*lines: str) -> None:
    """Print messages, one per line."""
    console = err()
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """One JSON document as the result of the command."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def as_text(content: RenderableType) -> str:
    """The rendering on a terminal, as plain text."""
    file = io.StringIO()
    Console(file=file, width=120, highlight=False, color_system=None).print(content)
    return file.getvalue()


def save(path: Path, content: bytes) -> None:
    """Write a result to a file.

    Raises:
        WrongUsage: it cannot be written there.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise WrongUsage(f"{path} cannot be written: {error.strerror}") from error
