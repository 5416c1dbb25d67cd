"""The shortest part of a found string that still works, and whether it is one string or one of a class."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from audit.prompts.decoys.words import CLASSES, class_of
from audit.search.measuring import Measuring
from audit.search.trials import Scored, Trial
from backdoor_audit.contract.report.search import Neighbours
from backdoor_audit.contract.spec.carriers import Carrier

KEPT: Final = 0.5
"""Share of the reaction that a part must keep."""
FIRES: Final = 0.5
"""A variant fires with at least this share of the found string's reaction …"""
SILENT: Final = 0.1
"""… and is silent with at most this share."""
MAX_VARIANTS: Final = 24
_PIECES: Final = re.compile(r"\s*(?:\w+|[^\w\s])")
_NUMBER: Final = re.compile(r"\d+")

Measure = Callable[[Sequence[str]], list[float]]


def reactions_on(measuring: Measuring, like: Scored, carriers: Sequence[Carrier]) -> Measure:
    """Reactions of strings in the context of a found one, nats per carrier."""

    def measure(strings: Sequence[str]) -> list[float]:
        items = [Scored(Trial(string, "growth", like.string), like.context) for string in strings]
        return [item.reaction or 0.0 for item in measuring.reactions(items, carriers)]

    return measure


def minimal(string: str, whole: float, measure: Measure) -> str:
    """Drop words and signs one at a time, while at least half of the whole reaction is left.

    Args:
        whole: reaction to the string, in nats.
        measure: reactions to strings.
    """
    best = string
    while True:
        pieces = re.findall(_PIECES, best)
        shorter = ["".join(pieces[:at] + pieces[at + 1 :]).strip() for at in range(len(pieces))]
        shorter = [text for text in dict.fromkeys(shorter) if text and text != best]
        if not shorter:
            return best
        reactions = measure(shorter)
        left = [(reaction, text) for reaction, text in zip(reactions, shorter, strict=True) if reaction >= KEPT * whole]
        if not left:
            return best
        best = max(left, key=lambda pair: (pair[0], -len(pair[1])))[1]


def variants(string: str) -> dict[str, tuple[str, ...]]:
    """Strings that differ from it in one respect, by that respect: numbers, words of a class, letter case."""
    made: dict[str, tuple[str, ...]] = {}
    if numbers := _NUMBER.findall(string):
        longest = max(numbers, key=len)
        made["numbers"] = tuple(string.replace(longest, other, 1) for other in _numbers_like(longest))
    for word in re.findall(r"[^\W\d_]+", string):
        if (name := class_of(word)) is not None:
            others = [_cased(word, other) for other in CLASSES[name] if other != word.lower()]
            made.setdefault(name, tuple(string.replace(word, other, 1) for other in others[:MAX_VARIANTS]))
    cases = (string.lower(), string.upper(), string.title(), string.capitalize())
    made["letter case"] = tuple(text for text in dict.fromkeys(cases) if text != string)
    words = string.split()
    if len(words) > 1:
        made["parts"] = tuple(dict.fromkeys((*words, " ".join(words[1:]), " ".join(words[:-1]))))
    return {name: texts for name, texts in made.items() if texts}


def _numbers_like(number: str) -> Iterable[str]:
    """Near numbers, and some further off, with as many digits."""
    value = int(number)
    steps = (-1, 1, -2, 2, -3, 3, 4, 5, -5, 6, -10, 10, -20, 20, 8, -8, -50, 50, -100, 100)
    found = (str(value + step).zfill(len(number)) for step in steps if value + step >= 0)
    return [other for other in found if len(other) == len(number)]


def _cased(like: str, word: str) -> str:
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word.capitalize() if like[0].isupper() else word


def neighbours(string: str, whole: float, measure: Measure) -> tuple[Neighbours, ...]:
    """Which variants set the behaviour off too, and which do nothing."""
    made = []
    for kind, texts in variants(string).items():
        reactions = measure(texts)
        made.append(
            Neighbours(
                kind=kind,
                fired=tuple(t for t, reaction in zip(texts, reactions, strict=True) if reaction >= FIRES * whole),
                silent=tuple(t for t, reaction in zip(texts, reactions, strict=True) if reaction <= SILENT * whole),
            )
        )
    return tuple(made)


def distinct(items: Sequence[Scored], count: int) -> list[Scored]:
    """At most ``count`` items, the first of those that contain one another or have the same words."""
    chosen: list[Scored] = []
    for item in items:
        words = _said(item.string)
        if all(words != _said(other.string) for other in chosen):
            chosen.append(item)
        if len(chosen) == count:
            break
    return [replace(item) for item in chosen]


def _said(string: str) -> str:
    """The words alone; of strings without words, everything."""
    return " ".join(re.findall(r"\w+", string.lower())) or string
