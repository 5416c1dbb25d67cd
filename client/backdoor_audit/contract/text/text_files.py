"""Splits text that a person wrote, in a file or in a form field, into lines.

Some editors put a byte order mark in front of UTF-8; it is not part of the text. A line ends only with LF or CR LF:
Python's ``splitlines`` also breaks at U+2028, U+0085 and others, which JSON strings and prompts may contain.
"""

import re
from typing import Final

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
