"""Carriers: the prompts into which the strings are inserted, and how they are split into the two halves of an audit.

Two sets ship with the package (``generate.py`` writes them); a user's own prompts go through the same functions.
"""

from audit.prompts.carriers.sets import SETS, load_set
from audit.prompts.carriers.split import cluster_of, digest, split_ab, subsample

__all__ = ["SETS", "cluster_of", "digest", "load_set", "split_ab", "subsample"]
