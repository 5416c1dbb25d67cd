"""Splits text that a person wrote, in a file or in a form field, into lines.

Some editors put a byte order mark in front of UTF-8; it is not part of the text. A line ends only with LF or CR LF:
Python's ``splitlines`` also breaks at U+2028, U+0085 and others, which JSON strings and prompts may contain.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

from backdoor_audit.contract.base import clean_text

_BOM: Final = "\ufeff"


def text_of(content: bytes) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    return content.decode("utf-8-sig")


def lines_of(text: str) -> list[str]:
    """The lines that contain more than white space."""
    return [line for line in re.split("\r?\n", text.removeprefix(_BOM)) if line.strip()]


def read_lines(path: Path, *, most: int, longest: int) -> list[str]:
    """The prompts of a file: each line that is not blank, or of ``.jsonl`` the text of each line's JSON.

    The file is read one line at a time, so its size does not matter. A JSON line is a string, or an object with
    ``prompt``, ``text``, ``content`` or ``messages``.

    Args:
        path: the file, in UTF-8.
        most: the maximum number of lines.
        longest: the maximum length of a line, in characters.

    Raises:
        ValueError: a line is too long, no text, or no JSON, or there are too many; the message names the line and
            never holds what is in it.
        OSError: the file cannot be read.
    """
    found: list[str] = []
    with path.open("rb") as file:
        number = 0
        # A character has at most four bytes in UTF-8, and JSON may write one as twelve.
        while content := file.readline(12 * longest + 2):
            number += 1
            text = _line(content.removesuffix(b"\n"), number, longest, as_json=path.suffix == ".jsonl")
            if text.strip():
                found.append(text)
            if len(found) > most:
                raise ValueError(f"it has more than {most:,} lines")
    return found


def _line(content: bytes, number: int, longest: int, *, as_json: bool) -> str:
    try:
        text = content.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"line {number} is not UTF-8") from None
    if as_json and text.strip():
        try:
            text = _text_in(json.loads(text))
        except (ValueError, RecursionError):
            raise ValueError(
                f"line {number} is no JSON string, and no object with prompt, text, content or messages"
            ) from None
    if len(text) > longest:
        raise ValueError(f"line {number} has more than {longest:,} characters")
    try:
        return clean_text(text)
    except ValueError as error:
        raise ValueError(f"line {number} {error}") from None


def _text_in(value: Any) -> str:
    """The text of one JSON value.

    Raises:
        ValueError: it has none.
    """
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        return "\n".join(_text_in(message) for message in value["messages"])
    if isinstance(value, dict):
        value = next((value[name] for name in ("prompt", "text", "content") if name in value), None)
    if not isinstance(value, str):
        raise ValueError("no text")
    return value
