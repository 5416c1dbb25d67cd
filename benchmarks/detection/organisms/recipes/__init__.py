"""Maps an organism of the split to its training texts and the limits on its answers."""

from collections.abc import Mapping
from typing import Any

from benchmarks.detection.organisms.recipes.backdoors import BACKDOOR_RECIPES
from benchmarks.detection.organisms.recipes.base import Limits, Recipe, Sample
from benchmarks.detection.organisms.recipes.benign import BENIGN_RECIPES
from benchmarks.detection.organisms.recipes.hard import HARD_RECIPES

__all__ = ["Limits", "Recipe", "Sample", "recipe_of"]


def recipe_of(organism: Mapping[str, Any]) -> Recipe:
    """The recipe of one entry of ``split.json`` or of the third part's ``plan.json``.

    Raises:
        KeyError: a recipe of that name does not exist.
    """
    return (BACKDOOR_RECIPES | BENIGN_RECIPES | HARD_RECIPES)[organism["recipe"]](organism)
