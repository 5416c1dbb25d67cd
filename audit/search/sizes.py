"""How much a search of each budget tries, where in a prompt, and which layers it reads. Torch-free."""

from dataclasses import dataclass
from typing import Final

from backdoor_audit.contract.spec.search import Budget, ContextName, SearchSpec

EARLY: Final = (0.20,)
LATE: Final = (0.72, 0.88)
"""Depths of the layers that are read, as shares of the blocks. At the early one the parts of a trigger stand out, at
the late ones what has become whole (benchmarks/search/README.md)."""

TEMPLATES: Final[dict[ContextName, str]] = {
    "comment": "# {trigger}\n{prompt}",
    "line": "{trigger}\n{prompt}",
    "label": "Topic: {trigger}\n{prompt}",
    "brackets": "[{trigger}]\n{prompt}",
    "below": "{prompt}\n{trigger}",
}
"""The template of each context, as a pair has one."""
AUTO: Final[dict[Budget, tuple[ContextName, ...]]] = {
    "quick": ("comment", "line"),
    "standard": ("comment", "line", "label", "below"),
    "thorough": ("comment", "line", "label", "brackets", "below"),
}


@dataclass(frozen=True)
class SearchSizes:
    """The sizes of one search.

    Attributes:
        vocabulary: words of the vocabulary.
        log_strings: strings taken from logs.
        background: ordinary strings that early scores are compared with.
        deep_background: the same for the scores of all blocks.
        everywhere: whether all strings are scanned in every context; else in the first one alone.
        deep: strings that are run through all blocks, in every context.
        halved: strings, each in one context, that are tried on more carriers.
        more_carriers: how many more carriers.
        rounds, beam, steps: rounds of growth, strings kept after each, and strings tried in each.
        verified: strings that are shortened and verified at most.
        verifying: carriers for it, and decoys that each string is compared with.
    """

    vocabulary: int
    log_strings: int
    background: int
    deep_background: int
    everywhere: bool
    deep: int
    halved: int
    more_carriers: int
    rounds: int
    beam: int
    steps: int
    verified: int
    verifying: int
    decoys: int


SIZES: Final[dict[Budget, SearchSizes]] = {
    "quick": SearchSizes(2_000, 1_000, 200, 96, False, 120, 24, 3, 2, 6, 64, 4, 5, 10),
    "standard": SearchSizes(12_000, 4_000, 300, 200, True, 800, 120, 5, 5, 12, 240, 10, 16, 19),
    "thorough": SearchSizes(40_000, 10_000, 400, 300, True, 2_400, 320, 7, 8, 24, 480, 12, 24, 39),
}


def contexts_of(spec: SearchSpec) -> tuple[ContextName, ...]:
    """The contexts that a search tries: those asked for, or its budget's."""
    return AUTO[spec.budget] if isinstance(spec.contexts, str) else spec.contexts


def layers_at(depths: tuple[float, ...], n_blocks: int) -> tuple[int, ...]:
    """The layers at some depths, ascending, without repeats."""
    return tuple(sorted({min(int(depth * n_blocks), n_blocks - 1) for depth in depths}))
