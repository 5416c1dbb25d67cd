"""Directions fitted on half A without any dictionary."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor

# Below this width, a dense eigendecomposition is faster than an iterative one.
_DENSE_BELOW = 128


def attribution_directions(
    did: Float[Tensor, "span d_model"], gradient: Float[Tensor, "span d_model"], rank: int
) -> Float[Tensor, "d_model rank"]:
    """Orthonormal leading eigenvectors of the symmetrised Σ DiD·gradientᵀ over the span.

    uᵀ(Σ DiD·gᵀ)u is the first-order part of the trigger's effect on the outputs that goes through u (attribution
    patching: Syed et al. 2310.10348; Kramár et al. 2403.00745), so the leading eigenvectors are the directions through
    which most of it goes. Columns are ordered by eigenvalue, largest first; signs make the mean DiD positive.
    """
    did, gradient = did.float(), gradient.float()
    gradient = gradient / gradient.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    width = did.shape[1]
    if width <= _DENSE_BELOW:
        leading = _dense(did, gradient, rank)
    else:
        try:
            leading = _iterative(did, gradient, rank)
        except ArpackError:  # nothing to iterate on (the zero matrix, if there is no effect at all), or no convergence
            leading = _dense(did, gradient, rank)
    signs = torch.sign(did.mean(0) @ leading)
    return leading * torch.where(signs == 0, torch.ones_like(signs), signs)


def _dense(did: Tensor, gradient: Tensor, rank: int) -> Float[Tensor, "d_model rank"]:
    product = did.T @ gradient
    _, vectors = torch.linalg.eigh((product + product.T) / 2)
    return vectors[:, -rank:].flip(1)


def _iterative(did: Tensor, gradient: Tensor, rank: int) -> Float[Tensor, "d_model rank"]:
    """The same by Lanczos iterations, without the matrix."""
    left, right, width = did.numpy(), gradient.numpy(), did.shape[1]

    def apply(vector: np.ndarray) -> np.ndarray:
        return (left.T @ (right @ vector) + right.T @ (left @ vector)) / 2

    operator = LinearOperator((width, width), matvec=apply, dtype=np.float32)
    start = left.mean(axis=0) + 1e-6
    values, vectors = eigsh(operator, k=rank, which="LA", v0=start, tol=1e-4)
    return torch.from_numpy(np.ascontiguousarray(vectors[:, np.argsort(values)[::-1]])).float()


def difference_in_means(did_last: Float[Tensor, "carriers d_model"]) -> Float[Tensor, "d_model 1"]:
    """Unit mean of the DiD at the last prompt token."""
    mean = did_last.float().mean(0)
    return (mean / mean.norm().clamp_min(torch.finfo(torch.float32).tiny)).unsqueeze(1)
