"""The single place that makes untrusted text safe to print.

A model's answer, an error of a checkpoint's template, a label or a file's name can contain characters that control a
terminal, and lines that a CI runner interprets as commands. Both are written as escapes, so that a reader sees that
they were there.
"""

import re
from typing import Final

# At the beginning of a line, after white space: GitHub's `::command::`. Anywhere in a line: GitHub's older `##[…]`,
# `##vso[…]` of Azure Pipelines, `##teamcity[…]`, and GitLab's markers of sections.
_AT_START: Final = re.compile(r"^(\s*):(?=:)", re.MULTILINE)
_ANYWHERE: Final = re.compile(r"#(?=#(?:vso|teamcity)?\[)", re.IGNORECASE)
_SECTION: Final = re.compile(r"section_(?=(?:start|end):[0-9])")
# Letters and marks that are drawn as nothing, and could hide text in text: Unicode's Default_Ignorable_Code_Point, as
# far as Python calls it printable, and the empty pattern of Braille.
_DRAWN_AS_NOTHING: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """``text`` on one line, without anything that controls a terminal or a CI runner."""
    return without_commands("".join(map(_escaped, text)))


def visible_lines(text: str) -> str:
    """Like :func:`visible`, but line feeds are kept, and so are line breaks written as CR LF."""
    return "\n".join(visible(line) for line in text.replace("\r\n", "\n").split("\n"))


def readable(text: str) -> str:
    """``text`` for a page: line feeds and tabs stay, and nothing changes the direction of the text or is invisible."""
    return "".join(one if one in "\n\t" else _escaped(one) for one in text.replace("\r\n", "\n"))


def without_commands(text: str) -> str:
    """``text`` with the beginnings of CI runners' commands written as escapes."""
    text = _AT_START.sub(r"\1\\x3a", text)
    return _SECTION.sub(r"section\\x5f", _ANYWHERE.sub(r"\\x23", text))


def visible_json(document: str) -> str:
    """Equivalent JSON, with the same characters written as JSON escapes."""
    document = "".join(character if character == "\n" else _json_escaped(character) for character in document)
    return _SECTION.sub(r"section\\u005f", _ANYWHERE.sub(r"\\u0023", document))


def _escaped(character: str) -> str:
    return character if _is_seen(character) else character.encode("unicode_escape").decode()


def _is_seen(character: str) -> bool:
    return character.isprintable() and (character.isascii() or _DRAWN_AS_NOTHING.match(character) is None)


def _json_escaped(character: str) -> str:
    if _is_seen(character) or character in "\r\t":
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
