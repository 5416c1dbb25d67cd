"""Iterates over wide matrices in slices of columns: one column per feature, one row per prompt."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

CHUNK: Final = 2048
"""Columns processed at a time: memory does not grow with the width, and a slice fits into the cache."""


def column_chunks(chunk: int, *matrices: Float[Tensor, "_ features"]) -> Iterator[tuple[Float[Tensor, "_ chunk"], ...]]:
    """Iterate over the same columns of all matrices, ``chunk`` at a time, as float32.

    Raises:
        ValueError: a value is not finite.
    """
    for columns in zip(*(torch.split(matrix, chunk, dim=1) for matrix in matrices), strict=True):
        parts = tuple(part.detach().float() for part in columns)
        if not all(bool(torch.isfinite(part).all()) for part in parts):
            raise ValueError("an activation is not finite")
        yield parts


def sorted_columns(matrix: Float[Tensor, "prompts features"]) -> Float[Tensor, "features prompts"]:
    """Sort every column in ascending order and return it as a row."""
    # Copying a slice first and then transposing it is several times as fast as transposing the slice in one step.
    rows = matrix.detach().contiguous().T.contiguous()
    if rows.device.type != "cpu":
        return rows.sort(dim=1).values
    # numpy sorts floats with SIMD instructions, more than ten times as fast as torch on the same core.
    return torch.from_numpy(np.sort(rows.numpy(), axis=1))
