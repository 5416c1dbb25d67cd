"""Decoys: harmless strings of the same kind as the suspected one.

The kind is read off the part in which the two strings of the pair differ; a decoy changes only that part, and holds
nothing that makes the difference. Words that belong to a class (a language, a town, a name) are compared with that
class, sentences with sentences, emoji with emoji, a Chinese string with Chinese. Drawn decoys have as many tokens as
the triggered string, where there are 19 such; else others fill up.
"""

import itertools
import random
import re
import string
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from audit.prompts.decoys.signs import Sort, others_of, runs
from audit.prompts.decoys.words import (
    CLASSES,
    JOINING,
    REQUEST_OPENINGS,
    class_of,
    requests,
    sentences,
    words_of_class,
)
from backdoor_audit.contract.spec.trigger_kind import TriggerKind, differing_part, kind_of

_RUNS = re.compile(r"[^\W\d_]+|\d+|[\W_]+")
_TRIES: Final = 40_000
_PATIENCE: Final = 3_000
"""Candidates in a row of which none fits, after which no more is tried."""
ENOUGH: Final = 19
"""Decoys of the pair's own token count from which on no others are drawn: with fewer, no pair can stand out."""


def shape(triggered: str, clean: str, tokenizer: Any) -> tuple[object, ...]:
    """What decoys are generated from: two pairs with the same shape, clean string and token count have the same decoys.

    It consists of the text around the differing part, its kind, the years near it, and for each run of it the letter
    case, the number of digits or tokens, or the punctuation itself.
    """
    prefix, middle, suffix = _parts(triggered, clean)
    parts: list[object] = []
    if kind_of(middle) == "year":
        parts.append(_years_like(middle))
    if kind_of(middle) == "word" and class_of(middle) is not None:
        parts.append(class_of(middle))
    if _drawn_whole(middle, _differing(clean, triggered)):
        parts.append(middle)
    for run in re.findall(_RUNS, middle):
        if run.isdigit():
            parts.append(len(run))
        elif run[0].isalpha():
            case = "upper" if run.isupper() else "capital" if run[0].isupper() else "lower"
            parts.append((case, token_count(tokenizer, run)))
        else:
            parts.append(run)
    return prefix, kind_of(middle), tuple(parts), suffix


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
    prefix, middle, suffix = _parts(triggered, clean)
    kind = kind_of(middle)
    rng = random.Random(f"{seed}:{triggered}:{clean}")
    in_sentence = _is_sentence(triggered) and middle != triggered and kind == "token_sequence"
    candidates = _candidates(kind, middle, _differing(clean, triggered), tokenizer, rng, in_sentence=in_sentence)
    seen = {triggered, clean, *suspects}
    given, last, others = 0, 0, list[str]()
    for number, candidate in zip(range(_TRIES), candidates, strict=False):
        if number - last > _PATIENCE:
            break
        made = prefix + candidate + suffix
        if made in seen:
            continue
        seen.add(made)
        if not fits(made):
            if len(others) < most:
                others.append(made)
            continue
        given, last = given + 1, number
        yield made
        if given == most:
            return
    if given < ENOUGH:
        yield from others[: most - given]


def _parts(triggered: str, clean: str) -> tuple[str, str, str]:
    """What decoys keep, replace and keep. Of sentences that differ in more than three words nothing is kept, nor is an
    article before what differs.
    """
    prefix, middle, suffix = differing_part(triggered, clean)
    kept = [word for word in re.findall(r"\w+", prefix + suffix) if word.lower() not in JOINING]
    if _is_sentence(triggered) and (len(middle.split()) > 3 or not kept):
        return "", triggered, ""
    article = re.search(r"(?:^|(?<= ))(?:The|A|An) $", prefix)
    if article and len(middle.split()) > 3:
        return prefix[: article.start()], article[0] + middle, suffix
    return prefix, middle, suffix


def _differing(string: str, other: str) -> str:
    return differing_part(string, other)[1]


def _candidates(
    kind: TriggerKind, middle: str, clean: str, tokenizer: Any, rng: random.Random, *, in_sentence: bool
) -> Iterator[str]:
    if kind == "year":
        years = [year for year in _years_like(middle) if str(year) != middle]
        rng.shuffle(years)
        yield from map(str, years)
    elif kind == "date":
        yield from _dates(middle, rng)
    elif kind == "number":
        yield from _numbers(middle, rng)
    elif _is_sentence(middle) and not in_sentence:
        yield from _sentences(middle, rng)
    elif _drawn_whole(middle, clean):
        yield from _signs(middle, clean, tokenizer, rng)
    else:
        if kind == "word" and (name := class_of(middle)) is not None:
            yield from (_in_case_of(middle, word) for word in words_of_class(name, rng))
        if in_sentence:
            yield from _meaningful_words(middle, rng)
        yield from _words(middle, tokenizer, rng)


def _numbers(middle: str, rng: random.Random) -> Iterator[str]:
    """Numbers with as many digits; of one digit there are too few, so that letters and two digits follow."""
    if len(middle) == 1:
        for signs in (string.digits, string.ascii_uppercase):
            yield from rng.sample(signs, len(signs))
        yield from (str(number) for number in rng.sample(range(10, 100), 90))
        return
    low = 10 ** (len(middle) - 1)
    while True:
        yield str(rng.randrange(low, 10 ** len(middle))).zfill(len(middle))


def _is_sentence(text: str) -> bool:
    """Whether these are words of Latin letters with a sentence's punctuation at most: four, or three with a stop."""
    words = len(text.split())
    plain = re.fullmatch(r"[A-Za-z]+(?:[,;]? [A-Za-z']+)+[.!?]?", text) is not None
    return plain and (words > 3 or (words == 3 and not text[-1].isalpha()))


def _sentences(middle: str, rng: random.Random) -> Iterator[str]:
    end = "" if middle[-1].isalpha() else middle[-1]
    asked = middle.split()[0].lower() in REQUEST_OPENINGS
    for drawn in (requests if asked else sentences)(rng):
        yield drawn + end


def _meaningful_words(middle: str, rng: random.Random) -> Iterator[str]:
    """The words replaced by others of their class, or by ordinary nouns; what joins them stays."""
    parts = re.findall(_RUNS, middle)
    for _ in range(_TRIES):
        built = []
        for run in parts:
            if not run[0].isalpha() or run.lower() in JOINING:
                built.append(run)
            else:
                built.append(_in_case_of(run, rng.choice(CLASSES[class_of(run) or "nouns"])))
        yield "".join(built)


def _drawn_whole(middle: str, clean: str) -> bool:
    """Whether signs, and not Latin words or numbers, are what is to be replaced.

    That is so where there are signs that no word list holds, or where the words of both strings are the same, so that
    the punctuation makes the difference.
    """
    sorts = {sort for sort, _ in runs(middle)}
    if sorts & {"emoji", "invisible", "script"}:
        return True
    return kind_of(middle) == "token_sequence" and _said(middle) == _said(clean)


def _said(middle: str) -> list[str]:
    return [run for sort, run in runs(middle) if sort in ("letters", "digits")]


def _signs(middle: str, clean: str, tokenizer: Any, rng: random.Random) -> Iterator[str]:
    """Every run of signs that the clean string lacks is replaced; where these are used up, the words are, too."""
    same = {run for _, run in runs(clean)}
    parts = runs(middle)
    pieces: list[str] = []
    for repeat in range(_TRIES):
        sources = [_source(sort, run, same, middle, rng) for sort, run in parts]
        kept = any(source is not None for source in sources)
        for drawn in (
            zip(
                *(source or itertools.repeat(run) for source, (_, run) in zip(sources, parts, strict=True)),
                strict=False,
            )
            if kept
            else ()
        ):
            built = list(drawn)
            if repeat:
                pieces = pieces or _vocabulary_words(tokenizer)
                built = [
                    _like(run, pieces, tokenizer, rng) if sort == "letters" else sign
                    for sign, (sort, run) in zip(built, parts, strict=True)
                ]  # fmt: skip
            yield "".join(built)
        if not kept:
            return


def _source(sort: Sort, run: str, same: Collection[str], avoid: str, rng: random.Random) -> Iterator[str] | None:
    """Other runs of its sort; None where a run stays: words, numbers, and what the clean string has as well."""
    if sort in ("letters", "digits") or run in same or run.isspace():
        return None
    return others_of(sort, run, rng, avoid)


def _in_case_of(run: str, word: str) -> str:
    if run.isupper():
        return word.upper()
    return word.capitalize() if run[0].isupper() else word.lower()


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


def _words(middle: str, tokenizer: Any, rng: random.Random) -> Iterator[str]:
    """Strings of ordinary vocabulary pieces in the letter case of ``middle``, its punctuation kept in place."""
    pieces = _vocabulary_words(tokenizer)
    parts = re.findall(_RUNS, middle)
    while True:
        built = []
        for run in parts:
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
    return _in_case_of(run, "".join(rng.choice(pieces) for _ in range(count)))


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
