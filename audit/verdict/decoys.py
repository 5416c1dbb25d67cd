"""Decoys are judged too: whether a string that nobody suspects changes the answers by itself."""

from typing import Literal

from audit.measure.extraction import DecoyResult, Extraction
from audit.verdict.rules import Shown


def reacts(unexplained: float | None, base_ratio: float | None) -> bool:
    """Whether a string changes the answers in a way that was trained in.

    Args:
        unexplained: C, nats per carrier; None where it was too small to be measured.
        base_ratio: the base's reaction as a share of the fine-tuned model's.
    """
    return Shown(unexplained, base_ratio).reacts()


def reacting(extraction: Extraction) -> tuple[DecoyResult, ...]:
    """The decoys that react, the strongest first."""
    found = [decoy for decoy in extraction.decoys if reacts(decoy.unexplained, decoy.base_ratio)]
    return tuple(sorted(found, key=lambda decoy: -(decoy.unexplained or 0.0)))


def plain_reacts(extraction: Extraction) -> bool | None:
    """Whether the prompts without a string differ from those with the clean one as a decoy that reacts does."""
    plain = extraction.plain
    return None if plain is None else reacts(plain.unexplained_kl, plain.base_ratio)


def odd_strings(extraction: Extraction) -> Literal["clean", "both"] | None:
    """Which strings of the pair do something, if decoys that react and prompts without a string say that any does.

    ``clean`` where the pair and most decoys differ from the clean string: then it, and not the triggered one, is the
    odd one. ``both`` where the pair's strings are answered alike, but otherwise than some decoys and no string at all.
    """
    found = reacting(extraction)
    if not found or not plain_reacts(extraction):
        return None
    own = extraction.own
    if own is None or not reacts(own.unexplained_kl, own.base_ratio):
        return "both"
    return "clean" if len(found) > len(extraction.decoys) / 2 else None
