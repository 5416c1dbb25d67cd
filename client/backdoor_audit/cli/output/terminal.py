"""A command's two streams: results on standard output, messages on standard error.

Either may have any encoding. What it cannot hold is written as escapes; a document that names its own encoding, or that
programs read, is written so that it still means the same.
"""

import codecs
import io
import json
import sys
from pathlib import Path
from typing import Any, Final, TextIO, cast

from rich.console import Console, RenderableType

from backdoor_audit.client.errors import WrongUsage
from backdoor_audit.contract.text.foreign_text import visible, visible_json, visible_lines, without_commands


class _Guarded:
    """A stream whose lines no CI runner interprets as commands.

    Printed text is made visible before it is laid out; but a long word that is wrapped can start a new line.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; each call starts a line."""
        return self._stream.write(without_commands(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _guarded(stream: TextIO) -> TextIO:
    return cast(TextIO, _Guarded(stream))


def out() -> Console:
    """Standard output; if that is not a terminal, wide enough for every table."""
    return Console(file=_guarded(sys.stdout), width=None if sys.stdout.isatty() else 120, highlight=False)


def err() -> Console:
    """Standard error."""
    return Console(file=_guarded(sys.stderr), highlight=False)


def say(*lines: str) -> None:
    """Print messages, one per line; quoted text is made visible."""
    console = err()
    for line in lines:
        console.print(visible_lines(line), markup=False, soft_wrap=True)


def print_line(line: str) -> None:
    """Print the single line that is the result of a command."""
    _print(visible(line))


def print_json(document: Any) -> None:
    """Print one JSON document as the result of a command."""
    _print_document(visible_json(json.dumps(document, indent=2, ensure_ascii=False)), _JSON_ESCAPES)


def print_form(body: bytes, form: str) -> None:
    """Print a report in a format rendered by the service. JSON keeps its meaning, other formats their lines."""
    text = body.decode(errors="backslashreplace")
    if form in ("json", "sarif"):
        _print_document(visible_json(text), _JSON_ESCAPES)
    elif form in ("html", "junit"):
        _print_document(visible_lines(text), "xmlcharrefreplace")
    else:
        _print(visible_lines(text))


def _print(text: str) -> None:
    """Print as it is. Not with typer, which takes a stream of ASCII for a mistake and writes UTF-8 to it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _print_document(text: str, escapes: str) -> None:
    """Print a document that is UTF-8 to its readers: on a stream of another encoding, in ASCII alone."""
    if codecs.lookup(sys.stdout.encoding or "ascii").name != "utf-8":
        text = text.encode("ascii", escapes).decode("ascii")
    _print(text)


def _json_escapes(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


_JSON_ESCAPES: Final = "backdoor_audit.json"
codecs.register_error(_JSON_ESCAPES, _json_escapes)


def as_text(content: RenderableType) -> str:
    """The terminal rendering as plain text."""
    file = io.StringIO()
    Console(file=_guarded(file), width=120, highlight=False, color_system=None).print(content)
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
