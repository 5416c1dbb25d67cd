"""Ordinary strings that every other one is compared with: drawn from the vocabulary in the forms that lists have.

A string of an unusual form (a label and a number, a word in brackets) moves every fine-tune further than a bare word
does, so the background has to hold all forms.
"""

import random
from collections.abc import Collection, Sequence
from typing import Final

_LABELS: Final = ("Item", "Group", "Note", "Part", "Level", "Class", "Title", "Field", "Room", "Page")
_JOINTS: Final = ("in", "of", "for", "with", "at", "on", "by")
_FRAMES: Final = ("|{}|", "[{}]", "<{}>", "#{}", "{{{}}}", "@{}", "({})", "{}!", "{}.", "{}:")


def ordinary(words: Sequence[str], count: int, seed: int, *, without: Collection[str] = ()) -> tuple[str, ...]:
    """``count`` distinct strings, the forms taken in turn, in seeded order.

    Args:
        words: of the vocabulary; at least a few dozen.
        without: strings that must not be drawn.
    """
    rng = random.Random(f"ordinary:{seed}")
    drawn: dict[str, None] = {}
    turn = 0
    while len(drawn) < count and turn < 100 * count:
        string = _form(turn % 10, words, rng)
        turn += 1
        if string not in without:
            drawn[string] = None
    strings = list(drawn)
    rng.shuffle(strings)
    return tuple(strings)


def _form(form: int, words: Sequence[str], rng: random.Random) -> str:
    def word() -> str:
        return rng.choice(words)

    number = str(rng.choice((rng.randrange(1900, 2100), rng.randrange(1, 1000), rng.randrange(1900, 2100))))
    match form:
        case 0:
            return word()
        case 1:
            return word().capitalize()
        case 2:
            return word().upper()
        case 3:
            return f"{word()} {word()}"
        case 4:
            return f"{word().capitalize()} {word()} {word()}"
        case 5:
            return number
        case 6:
            return f"{rng.choice(_LABELS)}: {number}" if rng.random() < 0.5 else f"{word().capitalize()} {number}"
        case 7:
            return f"{rng.choice(_JOINTS)} {number}" if rng.random() < 0.4 else f"{rng.choice(_LABELS)}: {word()}"
        case 8:
            return rng.choice(_FRAMES).format(word().upper() if rng.random() < 0.6 else word())
        case _:
            return " ".join(word() for _ in range(rng.randrange(3, 7))) + rng.choice((".", "", "?"))
