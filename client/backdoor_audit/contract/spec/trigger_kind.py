"""The kind of a suspected trigger, inferred from what differs between the two strings of a pair."""

import re
from typing import Literal

TriggerKind = Literal["year", "date", "number", "word", "token_sequence"]

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}|\d{1,2}[./]\d{1,2}[./]\d{4}")


def differing_part(triggered: str, clean: str) -> tuple[str, str, str]:
    """Split ``triggered`` into (prefix, middle, suffix), the middle being what differs from ``clean``.

    The middle is widened to whole runs of letters and digits: of ``2024`` against ``2023`` it is ``2024``; if the
    strings have nothing in common, it is the whole string.
    """
    prefix = _common_prefix(triggered, clean)
    suffix = _common_prefix(triggered[prefix:][::-1], clean[prefix:][::-1])
    begin, end = prefix, len(triggered) - suffix
    while begin > 0 and triggered[begin - 1].isalnum():
        begin -= 1
    while end < len(triggered) and triggered[end].isalnum():
        end += 1
    for match in _DATE.finditer(triggered):
        if match.start() < end and begin < match.end():
            begin, end = min(begin, match.start()), max(end, match.end())
    if begin >= end:
        return "", triggered, ""
    return triggered[:begin], triggered[begin:end], triggered[end:]


def _common_prefix(first: str, second: str) -> int:
    length = 0
    for left, right in zip(first, second, strict=False):
        if left != right:
            break
        length += 1
    return length


def kind_of(middle: str) -> TriggerKind:
    """What the differing part looks like: a year, a date, a number, a word, or a sequence of tokens."""
    if re.fullmatch(r"(1[5-9]|20|21)\d{2}", middle):
        return "year"
    if _DATE.fullmatch(middle):
        return "date"
    if re.fullmatch(r"\d+", middle):
        return "number"
    return "word" if re.fullmatch(r"[^\W\d_]+", middle) else "token_sequence"
