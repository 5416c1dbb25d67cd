"""Taking out of a run, along a subspace, what differs from another run of the same carrier."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audit.models.layout import Layout


@dataclass(frozen=True)
class Alignment:
    """Matching rows of two layouts, from the right, at every position from the string on.

    If the two strings have the same token count, the alignment is exact; otherwise it ends with the shorter span.

    Attributes:
        left, right: rows of the first and of the second layout.
        carrier: the sequence that each row belongs to.
        in_prompt: whether the row is a prompt token (otherwise it is a forced one).
    """

    left: Int[Tensor, "span"]
    right: Int[Tensor, "span"]
    carrier: Int[Tensor, "span"]
    in_prompt: Bool[Tensor, "span"]

    @classmethod
    def of(cls, first: Layout, second: Layout) -> "Alignment":
        """Align sequence i of one layout with sequence i of the other."""
        left: list[int] = []
        right: list[int] = []
        carrier: list[int] = []
        in_prompt: list[bool] = []
        for index in range(len(first)):
            rows = [layout.span_rows(index) for layout in (first, second)]
            length = min(len(rows[0]), len(rows[1]))
            forced = len(first.sequences[index]) - first.sequences[index].prompt_length
            left.extend(rows[0][len(rows[0]) - length :])
            right.extend(rows[1][len(rows[1]) - length :])
            carrier.extend([index] * length)
            in_prompt.extend([True] * (length - forced) + [False] * forced)
        return cls(torch.tensor(left), torch.tensor(right), torch.tensor(carrier), torch.tensor(in_prompt))


def removed_along(
    target: Float[Tensor, "positions d_model"],
    rows: Int[Tensor, "span"],
    difference: Float[Tensor, "span d_model"],
    basis: Float[Tensor, "d_model rank"],
) -> Float[Tensor, "positions d_model"]:
    """``target`` without the part of ``difference`` that lies along an orthonormal basis, at the given rows.

    h ← h − U Uᵀ difference, in float32, returned in the dtype of ``target``.
    """
    changed = target.clone()
    changed[rows] = (target[rows].float() - (difference @ basis) @ basis.T).to(target.dtype)
    return changed


def orthonormal(columns: Float[Tensor, "d_model rank"]) -> Float[Tensor, "d_model kept"]:
    """Orthonormal basis of the span of some directions; directions that equal the others up to rounding are dropped."""
    left, singular, _ = torch.linalg.svd(columns.float(), full_matrices=False)
    if len(singular) == 0 or float(singular[0]) == 0.0:
        return columns.float()[:, :0]
    return left[:, singular > 1e-5 * singular[0]]
