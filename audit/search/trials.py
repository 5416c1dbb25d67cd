"""The strings of a search, each with the list that it comes from, and how a string in a context was measured."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audit.search import lists
from audit.search.sizes import SearchSizes
from backdoor_audit.contract.report.search import Origin, SearchedSource
from backdoor_audit.contract.spec.search import ContextName, SearchSpec


@dataclass(frozen=True)
class Trial:
    """A string to try."""

    string: str
    origin: Origin
    list_name: str


@dataclass(frozen=True)
class Scored:
    """A string in one context, with what has been measured of it so far.

    Attributes:
        early, late: the largest outlier score over readings and layers, as a multiple of the background's largest.
        log_ratio: Z, as a multiple of the background's largest.
        reaction: C₁, mean over carriers, nats.
        base_ratio: Σ KL(base_s‖base_plain) / Σ KL(ft_s‖ft_plain); None if the fine-tuned model does not react.
        by_carrier: C₁ of each carrier.
    """

    trial: Trial
    context: ContextName
    early: float | None = None
    late: float | None = None
    log_ratio: float | None = None
    reaction: float | None = None
    base_ratio: float | None = None
    by_carrier: tuple[float, ...] = ()

    @property
    def string(self) -> str:
        """The string."""
        return self.trial.string

    @property
    def key(self) -> tuple[ContextName, str]:
        """What makes it distinct."""
        return self.context, self.trial.string

    def updated(self, other: "Scored") -> "Scored":
        """This one with the other's reaction, which was measured on more carriers."""
        return replace(
            self, reaction=other.reaction, base_ratio=other.base_ratio, by_carrier=other.by_carrier
        )  # fmt: skip


def trials(
    spec: SearchSpec, tokenizer: Any, sizes: SearchSizes, log_strings: Sequence[str] = ()
) -> tuple[tuple[Trial, ...], tuple[SearchedSource, ...]]:
    """Every string of the chosen sources, once, under the first list that holds it; and how many each list gave.

    Args:
        log_strings: what recurs in the user's logs, the most frequent first.
    """
    found: dict[str, Trial] = {}
    searched = []

    def add(origin: Origin, name: str, strings: Iterable[str], digest: str = "") -> None:
        before = len(found)
        for string in strings:
            if string.strip():
                found.setdefault(string, Trial(string, origin, name))
        searched.append(SearchedSource(origin=origin, name=name, strings=len(found) - before, digest=digest))

    if "own" in spec.sources and spec.strings:
        add("own", "strings of the spec", spec.strings)
    if "logs" in spec.sources and log_strings:
        add("logs", "logs", log_strings[: sizes.log_strings])
    if "published" in spec.sources:
        add("published", "published triggers", lists.published(), lists.digest(lists.published()))
    if "lists" in spec.sources:
        for name, strings in lists.shipped().items():
            add("lists", name, strings, lists.digest(strings))
        add("lists", "special tokens", lists.special_tokens(tokenizer))
    if "vocabulary" in spec.sources:
        add("vocabulary", "vocabulary", lists.vocabulary(tokenizer, sizes.vocabulary))
    return tuple(found.values()), tuple(searched)
