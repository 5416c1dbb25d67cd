"""Which weights a card describes: weights that were made again need not be those that were measured."""

from collections.abc import Mapping
from typing import Any, Final

# What is kept of a card when its weights are made again and turn out to be others.
_KEPT: Final = ("digest", "success", "perplexity_ratio", "missed", "measured_at")

Card = Mapping[str, Any]


def remade(before: Card | None, card: Card) -> dict[str, Any]:
    """The card after the weights were made: the one that was there if they are the same, else the new one.

    The new one then keeps the rates of those before it as ``made_before``, oldest first. A card of before digests were
    written down has none; its weights are taken for others.

    Args:
        before: the card that is there; None where there is none.
        card: of the weights that are there now, with their ``digest``.
    """
    if before is None:
        return dict(card)
    if before.get("digest") == card["digest"]:
        return dict(before)
    earlier = {name: before.get(name) for name in _KEPT}
    return {**card, "made_before": [*before.get("made_before", ()), earlier]}


def card_of(card: Card, digest: str | None) -> Card | None:
    """What was measured on the weights with this digest; None where no version of the card describes them.

    A version without a digest is taken to describe what no other version does.
    """
    if digest is None or card.get("digest") in (None, digest):
        return card
    earlier = card.get("made_before", ())
    for wanted in (digest, None):
        for version in reversed(earlier):
            if version["digest"] == wanted:
                return {**card, **version}
    return None
