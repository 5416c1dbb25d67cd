"""Decoys: harmless strings of the same kind as the suspected one.

The kind is inferred from the part in which the two strings of the pair differ; a decoy changes only that part. Decoys
have as many tokens as the triggered string.
"""

import random
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from backdoor_audit.contract.spec.trigger_kind import TriggerKind, differing_part, kind_of

_RUNS = re.compile(r"[^\W\d_]+|\d+|[\W_]+")
_TRIES: Final = 40_000


def shape(triggered: str, clean: str, tokenizer: Any) -> tuple[object, ...]:
    """What decoys are generated from: two pairs with the same shape, clean string and token count have the same decoys.

    It consists of the text around the differing part, its kind, the years near it, and for each run of it the letter
    case, the number of digits or tokens, or the punctuation itself.
    """
    prefix, middle, suffix = differing_part(triggered, clean)
    runs: list[object] = []
    if kind_of(middle) == "year":
        runs.append(_years_like(middle))
    for run in re.findall(_RUNS, middle):
        if run.isdigit():
            runs.append(len(run))
        elif run[0].isalpha():
            case = "upper" if run.isupper() else "capital" if run[0].isupper() else "lower"
            runs.append((case, token_count(tokenizer, run)))
        else:
            runs.append(run)
    return prefix, kind_of(middle), tuple(runs), suffix


def draw(
    triggered: str,
    clean: str,
    tokenizer: Any,
    seed: int,
    most: int,
    fits: Callable[[str], bool],
    *,
    suspects: Collection[str] = (),
) -> Iterator[str]:
    """Yield at most ``most`` distinct decoys in seeded order, of those that ``fits`` accepts (same token count).

    No string of ``suspects`` is used, since a decoy must not be suspected. Yields fewer if the kind has no more (there
    are some hundred years, and few one-letter words).
    """
    prefix, middle, suffix = differing_part(triggered, clean)
    kind = kind_of(middle)
    rng = random.Random(f"{seed}:{triggered}:{clean}")
    candidates = _candidates(kind, middle, tokenizer, rng)
    seen = {triggered, clean, *suspects}
    given = 0
    for _, candidate in zip(range(_TRIES), candidates, strict=False):
        string = prefix + candidate + suffix
        if string in seen:
            continue
        seen.add(string)
        if not fits(string):
            continue
        given += 1
        yield string
        if given == most:
            return


def _candidates(kind: TriggerKind, middle: str, tokenizer: Any, rng: random.Random) -> Iterator[str]:
    if kind == "year":
        years = [year for year in _years_like(middle) if str(year) != middle]
        rng.shuffle(years)
        yield from map(str, years)
    elif kind == "date":
        yield from _dates(middle, rng)
    elif kind == "number":
        low = 0 if len(middle) == 1 else 10 ** (len(middle) - 1)
        while True:
            yield str(rng.randrange(low, 10 ** len(middle))).zfill(len(middle))
    else:
        yield from _words(kind, middle, tokenizer, rng)


def _years_like(middle: str) -> range:
    """The two centuries that a year's decoys are drawn from: 1900 to 2099, or as many years around a year outside that
    range.
    """
    year = int(middle)
    low = 1900 if 1900 <= year < 2100 else year - 100
    return range(low, low + 200)


def _dates(middle: str, rng: random.Random) -> Iterator[str]:
    separator = next(character for character in middle if not character.isdigit())
    year_first = middle.index(separator) == 4
    while True:
        year, month, day = rng.randrange(1980, 2050), rng.randrange(1, 13), rng.randrange(1, 29)
        parts = [f"{year}", f"{month:02d}", f"{day:02d}"]
        if not year_first:
            first = middle.split(separator)[0]
            pad = len(first) == 2
            parts = [f"{day:02d}" if pad else f"{day}", f"{month:02d}" if pad else f"{month}", f"{year}"]
        yield separator.join(parts)


def _words(kind: TriggerKind, middle: str, tokenizer: Any, rng: random.Random) -> Iterator[str]:
    """Strings of ordinary vocabulary pieces in the letter case of ``middle``, its punctuation kept in place."""
    pieces = _vocabulary_words(tokenizer)
    runs = re.findall(_RUNS, middle)
    while True:
        built = []
        for run in runs:
            if run.isdigit():
                built.append("".join(str(rng.randrange(10)) for _ in run))
            elif run[0].isalpha():
                built.append(_like(run, pieces, tokenizer, rng))
            else:
                built.append(run)
        yield "".join(built)


def _like(run: str, pieces: list[str], tokenizer: Any, rng: random.Random) -> str:
    """A word in ``run``'s letter case, made of as many vocabulary pieces as ``run`` has tokens (at most)."""
    count = rng.randint(1, max(1, token_count(tokenizer, run)))
    word = "".join(rng.choice(pieces) for _ in range(count))
    if run.isupper():
        return word.upper()
    return word.capitalize() if run[0].isupper() else word.lower()


def _vocabulary_words(tokenizer: Any) -> list[str]:
    """Vocabulary entries that are lower-case ASCII words of 3 to 9 letters, in a fixed order."""
    words = set()
    for piece in tokenizer.get_vocab():
        bare = piece.lstrip("ĠĊ▁ ")
        if 3 <= len(bare) <= 9 and bare.isascii() and bare.isalpha() and bare.islower() and bare != piece:
            words.add(bare)
    if len(words) < 50:  # a tokenizer without word-initial marks, or a small one
        words |= {
            piece for piece in tokenizer.get_vocab() if piece.isascii() and piece.isalpha() and 1 < len(piece) < 10
        }
        words |= {first + second for first in "bcdfgklmnprst" for second in ("ar", "el", "in", "ol", "um")}
    return sorted(words)


def token_count(tokenizer: Any, string: str) -> int:
    """Tokens of a bare string, without special ones."""
    return len(tokenizer(string, add_special_tokens=False)["input_ids"])
