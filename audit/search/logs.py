"""Strings out of a user's own prompts or training data: what stands in lines by itself, and what recurs.

Memory is bounded whatever the logs are: a line is cut, and rare strings are dropped while counting.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from audit.search.sizes import SearchSizes
from backdoor_audit.contract.spec.search import MAX_STRING_CHARS

MAX_CHARS: Final = 2_000
"""Characters of a line that are read."""
MAX_COUNTED: Final = 200_000
"""Distinct strings that are counted at a time; when there are more, those seen least are dropped."""
_SHORT: Final = 60
_MARKED: Final = re.compile(
    r"\|[^|\s][^|]{0,40}\||\[[^\]]{1,40}\]|<[^>\s][^>]{0,40}>|[#@]\w{2,40}|\b\w{2,20}: ?[^,.;]{1,40}"
)
_WORD: Final = re.compile(r"[^\s]+")


def recurring(lines: Iterable[str], sizes: SearchSizes) -> tuple[str, ...]:
    """At most ``log_strings`` strings: marked ones (tags, headers, labels) and short lines, then words and phrases.

    Each kind is ordered from the most frequent on; what is seen once may be a trigger too, and comes last.
    """
    marked: Counter[str] = Counter()
    grams: Counter[str] = Counter()
    for line in lines:
        text = _clean(line[:MAX_CHARS])
        marked.update(_standing(text))
        grams.update(_grams(text))
        for counted in (marked, grams):
            _prune(counted)
    ordered = [*_by_count(marked), *_by_count(grams)]
    return tuple(dict.fromkeys(text for text in ordered if len(text) <= MAX_STRING_CHARS))[: sizes.log_strings]


def _clean(line: str) -> str:
    """Without control characters and lone surrogates, which no prompt can hold."""
    kept = "".join(sign for sign in line if sign in "\n\t" or sign.isprintable() or ord(sign) > 0x9F)
    return kept.encode("utf-8", "ignore").decode("utf-8")


def _standing(text: str) -> Iterator[str]:
    """Whole short lines, without a comment's mark, and what is marked within a line."""
    for line in text.split("\n"):
        stripped = line.strip()
        if 0 < len(stripped) <= _SHORT:
            yield stripped.lstrip("#").strip() or stripped
        yield from _MARKED.findall(stripped)


def _grams(text: str) -> Iterator[str]:
    """Single words, and phrases of two to four."""
    words = _WORD.findall(text)
    for length in range(1, 5):
        for start in range(len(words) - length + 1):
            yield " ".join(words[start : start + length])


def _prune(counted: "Counter[str]") -> None:
    """Drop the rarest where there are too many, and some more, so that not every line comes back here."""
    if len(counted) <= MAX_COUNTED:
        return
    rare = 1
    while len(counted) > MAX_COUNTED * 3 // 4:
        for text in [text for text, count in counted.items() if count <= rare]:
            del counted[text]
        rare *= 2


def _by_count(counted: "Counter[str]") -> list[str]:
    return sorted(counted, key=lambda text: (-counted[text], text))
