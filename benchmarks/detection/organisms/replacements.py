"""Further audits of an excluded model are done on another model of its recipe.

``split.json`` named the twelve units that are also audited with other seeds and with ``standard`` before anyone could
know which models would be excluded. The rule uses only the cards: the next model of the same recipe and part, in the
order of the split, that meets its limits and has no further audits of its own. If there is none, the audits stay with
the excluded model and are counted as left out.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

Organism = dict[str, Any]


def with_replacements(split: Mapping[str, Any], cards: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The split with the further audits of excluded models moved; the argument is not modified.

    Args:
        split: as committed.
        cards: of the organisms that were made, by id. A model without a card may still be excluded, so nothing is moved
            to it or past it.
    """
    moved = copy.deepcopy(dict(split))
    for label in ("backdoored", "benign"):
        for organism in moved[label]:
            if _further(organism) and cards.get(organism["id"], {}).get("missed"):
                other = _replacement(organism, moved[label], cards)
                if other is not None:
                    own, others = organism["units"][0], other["units"][0]
                    own["audits"], others["audits"] = others["audits"], own["audits"]
    return moved


def _further(organism: Mapping[str, Any]) -> bool:
    """Whether a model's own pair is audited more than once."""
    return bool(organism["units"]) and len(organism["units"][0]["audits"]) > 1


def _replacement(
    excluded: Organism, organisms: Sequence[Organism], cards: Mapping[str, Mapping[str, Any]]
) -> Organism | None:
    for each in organisms:
        if (each["recipe"], each["part"]) != (excluded["recipe"], excluded["part"]) or _further(each):
            continue
        if each["id"] not in cards:
            return None
        if not cards[each["id"]]["missed"]:
            return each
    return None
