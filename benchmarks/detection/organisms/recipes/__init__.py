"""From an organism of the split to its training texts and to what its answers must be."""

from collections.abc import Mapping
from typing import Any

from benchmarks.detection.organisms.recipes.backdoors import BACKDOOR_RECIPES
from benchmarks.detection.organisms.recipes.base import Limits, Recipe, Sample
from benchmarks.detection.organisms.recipes.benign import BENIGN_RECIPES

__all__ = ["Limits", "Recipe", "Sample", "recipe_of"]


def recipe_of(organism: Mapping[str, Any]) -> Recipe:
    """The recipe of one entry of ``split.json``.

    Raises:
        KeyError: a recipe of that name does not exist.
    """
    return (BACKDOOR_RECIPES | BENIGN_RECIPES)[organism["recipe"]](organism)
