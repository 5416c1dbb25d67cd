"""Which weights a card describes: retrained weights need not equal those that were measured."""

from collections.abc import Mapping
from typing import Any, Final

# What is kept of a card when its weights are retrained and turn out different.
_KEPT: Final = ("digest", "success", "perplexity_ratio", "missed", "measured_at")

Card = Mapping[str, Any]


def remade(before: Card | None, card: Card) -> dict[str, Any]:
    """The card after the weights were made: the previous one if they are the same, otherwise the new one.

    The new one then keeps the rates of those before it as ``made_before``, oldest first. A card from before digests
    were recorded has none; its weights are taken to be different.

    Args:
        before: the existing card; None if there is none.
        card: the card of the present weights, with their ``digest``.
    """
    if before is None:
        return dict(card)
    if before.get("digest") == card["digest"]:
        return dict(before)
    earlier = {name: before.get(name) for name in _KEPT}
    return {**card, "made_before": [*before.get("made_before", ()), earlier]}


def card_of(card: Card, digest: str | None) -> Card | None:
    """What was measured on the weights with this digest; None if no version of the card describes them.

    A version without a digest is taken to describe weights that no other version describes.
    """
    if digest is None or card.get("digest") in (None, digest):
        return card
    earlier = card.get("made_before", ())
    for wanted in (digest, None):
        for version in reversed(earlier):
            if version["digest"] == wanted:
                return {**card, **version}
    return None
