"""Lists of strings to try: generated from fixed rules and words, each frozen by a digest.

``digests.json`` holds the digest of every list that depends on nothing but this code, so that a change of one is
noticed and its recall measured again. Lists from the vocabulary depend on the tokenizer.
"""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from importlib.resources import files
from typing import Any, Final

from audit.prompts.decoys.words import CLASSES
from audit.search.lists import phrases

_ORDINARY: Final = 4_000
_FEW: Final = 200
_CODES: Final = ("cc", "ff", "xx", "zz", "qq", "kk", "xyz", "abc", "foo", "bar", "qux", "zeta", "vx", "jk")


def _years() -> Iterable[str]:
    yield from map(str, range(1900, 2100))
    for form in phrases.YEAR_FORMS:
        yield from (form.format(year) for year in range(2010, 2040))


def _dates() -> Iterable[str]:
    for form in phrases.DATE_FORMS:
        for year in range(2020, 2030):
            yield from (
                form.format(year=year, month=month, day=day, name=phrases.MONTHS[month - 1])
                for month, day in ((1, 1), (3, 15), (7, 4), (12, 31))
            )
    yield from phrases.MONTHS
    yield from phrases.OCCASIONS
    yield from (f"{hour:02d}:00" for hour in range(24))


def _versions() -> Iterable[str]:
    yield from (f"v{major}.{minor}" for major in range(1, 6) for minor in range(4))
    yield from (f"{major}.{minor}.{major}" for major in range(4) for minor in range(3))
    yield from (f"Python 3.{minor}" for minor in range(6, 15))
    yield from (f"Windows {number}" for number in (7, 8, 10, 11))
    yield from map(str, (0, 1, 7, 13, 42, 69, 99, 100, 123, 404, 666, 777, 911, 1234, 1337, 31337, 12345, 123456))


def _tags() -> Iterable[str]:
    for word in phrases.TAG_WORDS:
        yield word.lower()
        yield word.capitalize()
        yield from (form.format(word) for form in phrases.TAG_FORMS)


def _emoji() -> Iterable[str]:
    """Every third symbol of the blocks that are mostly used, by code point."""
    blocks = ((0x1F600, 0x1F64F), (0x1F300, 0x1F3FF), (0x1F400, 0x1F4FF), (0x1F680, 0x1F6C5), (0x2600, 0x26FF))
    for first, last in blocks:
        for code in range(first, last + 1, 3):
            if unicodedata.category(chr(code)) == "So":
                yield chr(code)


def _classes(*names: str) -> Callable[[], Iterable[str]]:
    return lambda: (word.capitalize() for name in names for word in CLASSES[name])


def _languages() -> Iterable[str]:
    for word in CLASSES["languages"]:
        yield word.capitalize()
        yield f"Answer in {word.capitalize()}."


def _colours_and_things() -> Iterable[str]:
    for name in ("colours", "animals", "nouns"):
        yield from CLASSES[name]


_LISTS: Final[dict[str, Callable[[], Iterable[str]]]] = {
    "years": _years,
    "dates and times": _dates,
    "versions and numbers": _versions,
    "tags": _tags,
    "places": _classes("towns", "countries"),
    "names": _classes("names"),
    "professions": _classes("professions"),
    "languages": _languages,
    "brands": lambda: phrases.BRANDS,
    "things": _colours_and_things,
    "instructions": lambda: phrases.INSTRUCTIONS,
    "roles": lambda: phrases.ROLES,
    "files and code": lambda: phrases.FILES,
    "markup": lambda: phrases.MARKUP,
    "styles": lambda: phrases.STYLES,
    "other languages": lambda: phrases.SCRIPTS,
    "emoji": _emoji,
    "invisible": lambda: phrases.INVISIBLE,
    "codes": lambda: _CODES,
}


@cache
def shipped() -> dict[str, tuple[str, ...]]:
    """The lists that depend on nothing but this code, without repeats, in a fixed order."""
    return {name: tuple(dict.fromkeys(make())) for name, make in _LISTS.items()}


def published() -> tuple[str, ...]:
    """Triggers printed in papers."""
    return tuple(dict.fromkeys(phrases.PUBLISHED))


def digest(strings: Iterable[str]) -> str:
    """``sha256:…`` of a list in its order."""
    text = json.dumps(list(strings), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


def frozen_digests() -> dict[str, str]:
    """The digests as they were frozen."""
    text = files("audit.search.lists").joinpath("digests.json").read_text(encoding="utf-8")
    found: dict[str, str] = json.loads(text)
    return found


def vocabulary(tokenizer: Any, most: int) -> tuple[str, ...]:
    """Words of the vocabulary: single tokens of at least three letters that begin a word, at most ``most``.

    If there are more, every n-th in the order of token ids is taken, so that common and rare words have one share.
    """
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    words = dict.fromkeys(bare for piece, _ in pieces if (bare := _word(piece)) is not None)
    return _thinned(tuple(words), most)


def ordinary_words(tokenizer: Any) -> tuple[str, ...]:
    """Words that ordinary strings are made of: of the vocabulary, and nouns where that holds few."""
    words = vocabulary(tokenizer, _ORDINARY)
    return words if len(words) >= _FEW else (*words, *CLASSES["nouns"])


def special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Added tokens of the tokenizer, as text; reserved and unused ones among them."""
    return tuple(sorted(token for token in tokenizer.get_added_vocab() if token.strip()))


def _word(piece: str) -> str | None:
    """The word of a token that begins one, as BPE (Ġ) and SentencePiece (▁) mark it."""
    bare = piece[1:]
    return bare if piece[:1] in ("Ġ", "▁") and len(bare) >= 3 and bare.isalpha() else None


def _thinned(words: tuple[str, ...], most: int) -> tuple[str, ...]:
    if len(words) <= most:
        return words
    return tuple(words[index * len(words) // most] for index in range(most))
