"""What the strings that react have in common and the others lack: one split, exact or not named at all."""

import re
from collections.abc import Sequence
from typing import Final

_NUMBER: Final = re.compile(r"\d+")
_WORD: Final = re.compile(r"\w+")


def one_split(upper: Sequence[str], lower: Sequence[str]) -> str | None:
    """Name the one rule that holds for all of ``upper`` and for none of ``lower``; None if there is no such rule.

    Tried are, in this order, a bound on the last number, its last digit, and a word.
    """
    if not upper or not lower:
        return None
    return _bound(upper, lower) or _digit(upper, lower) or _word(upper, lower)


def _last_numbers(strings: Sequence[str]) -> list[str] | None:
    found = [_NUMBER.findall(string) for string in strings]
    return [each[-1] for each in found] if all(found) else None


def _bound(upper: Sequence[str], lower: Sequence[str]) -> str | None:
    inside, outside = _last_numbers(upper), _last_numbers(lower)
    if inside is None or outside is None:
        return None
    above, below = [int(each) for each in inside], [int(each) for each in outside]
    if min(above) > max(below):
        return f"a number of {min(above)} or more, and not of {max(below)} or less"
    if max(above) < min(below):
        return f"a number of {max(above)} or less, and not of {min(below)} or more"
    return None


def _digit(upper: Sequence[str], lower: Sequence[str]) -> str | None:
    inside, outside = _last_numbers(upper), _last_numbers(lower)
    if inside is None or outside is None:
        return None
    digits = {each[-1] for each in inside}
    if len(digits) == 1 and len(inside) > 1 and digits.isdisjoint(each[-1] for each in outside):
        return f"a number that ends in {digits.pop()}"
    return None


def _word(upper: Sequence[str], lower: Sequence[str]) -> str | None:
    shared = set.intersection(*(set(_WORD.findall(string.lower())) for string in upper))
    others = set().union(*(_WORD.findall(string.lower()) for string in lower))
    named = sorted(shared - others, key=lambda word: (-len(word), word))
    return f"the word '{named[0]}'" if named and len(upper) > 1 else None
