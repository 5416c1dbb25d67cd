"""Products with sparse latents, and the choice of which latents are active.

A BatchTopK dictionary of width 1,152 with k = 32 has 97% zeros among its latents. Everything after the encoder's
product can skip them: the reconstruction and all four gradients. On a CPU this halves the training time; on a GPU the
dense products are faster. ``use_sparse`` chooses; the results are the same either way.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

# If more than this share of the latents is active, the dense product is faster (measured in float32 on two cores).
_DENSE_FROM_DENSITY = 0.15

with warnings.catch_warnings():
    # torch warns once per process that CSR support is in beta. The only operation used here (sampled_addmm) is tested
    # against its dense counterpart, and a notice in every worker's log would be of no use.
    warnings.simplefilter("ignore", UserWarning)
    torch.eye(1).to_sparse_csr()


def use_sparse(device: torch.device, *, n_latents: int, k: int) -> bool:
    """Whether sparse products pay: on a CPU with MKL (the others lack the sampled product), at low density."""
    has_mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return device.type == "cpu" and has_mkl and k / n_latents < _DENSE_FROM_DENSITY


def batch_topk_threshold(scores: Float[Tensor, "tokens n_latents"], k: int) -> float:
    """The smallest score among the ``tokens · k`` largest of the whole batch, at least the smallest positive float.

    Latents with a score at or above it are active, those with a score of zero or below never (Bussmann et al.
    2412.06410).
    """
    flat = scores.detach().reshape(-1)
    keep = min(scores.shape[0] * k, flat.numel())
    if keep == 0:
        return _SMALLEST
    if flat.device.type == "cpu" and flat.dtype == torch.float32:
        # numpy's vectorised quickselect is ten times as fast as torch.topk here.
        rank = flat.numel() - keep
        kth = float(np.partition(flat.numpy(), rank)[rank])
    else:
        kth = float(flat.topk(keep, sorted=False).values.min())
    return max(kth, _SMALLEST)


_SMALLEST = float(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True)
class SparsePattern:
    """Positions of the active latents of a batch: compressed by token, and by latent for the transposed products.

    ``rows`` and ``columns`` list the active (token, latent) positions, sorted by token.
    """

    shape: tuple[int, int]
    rows: Int[Tensor, "active"]
    columns: Int[Tensor, "active"]

    @classmethod
    def from_mask(cls, mask: Bool[Tensor, "tokens n_latents"]) -> "SparsePattern":
        """The pattern of the true positions of a CPU mask."""
        positions = torch.from_numpy(np.flatnonzero(mask.numpy()))
        n_latents = mask.shape[1]
        rows = torch.div(positions, n_latents, rounding_mode="floor")
        return cls((mask.shape[0], n_latents), rows, positions - rows * n_latents)

    @cached_property
    def row_starts(self) -> Int[Tensor, "tokens+1"]:
        """Where each token's entries start, and the total at the end."""
        return _starts(self.rows, self.shape[0])

    @cached_property
    def column_starts(self) -> Int[Tensor, "n_latents+1"]:
        """Where each latent's entries start in ``by_column`` order, and the total at the end."""
        return _starts(self.columns, self.shape[1])

    @cached_property
    def by_column(self) -> Int[Tensor, "active"]:
        """The order that sorts the entries by latent, then token."""
        return torch.argsort(self.columns, stable=True)

    def times(self, values: Float[Tensor, "active"], matrix: Float[Tensor, "n_latents width"]) -> Tensor:
        """``S @ matrix`` for the sparse ``S`` with these values; ``[tokens width]``."""
        return _bags(matrix, self.columns, self.row_starts, values)

    def transposed_times(self, values: Float[Tensor, "active"], matrix: Float[Tensor, "tokens width"]) -> Tensor:
        """``S.T @ matrix``; ``[n_latents width]``."""
        order = self.by_column
        return _bags(matrix, self.rows[order], self.column_starts, values[order])

    def sampled_product(
        self, left: Float[Tensor, "tokens width"], right: Float[Tensor, "n_latents width"]
    ) -> Float[Tensor, "active"]:
        """``left @ right.T`` at the active positions only."""
        if self.rows.numel() == 0:
            return left.new_zeros(0)
        zeros = left.new_zeros(self.rows.numel())
        where = torch.sparse_csr_tensor(self.row_starts, self.columns, zeros, self.shape, check_invariants=False)
        return torch.sparse.sampled_addmm(where, left, right.T, beta=0.0).values()

    def column_sums(self, values: Float[Tensor, "active"]) -> Float[Tensor, "n_latents"]:
        """The sum of each latent's values."""
        return values.new_zeros(self.shape[1]).index_add_(0, self.columns, values)


def _starts(sorted_or_not: Tensor, size: int) -> Tensor:
    counts = torch.bincount(sorted_or_not, minlength=size)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _bags(matrix: Tensor, indices: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    if indices.numel() == 0:
        return matrix.new_zeros(starts.numel() - 1, matrix.shape[1])
    return F.embedding_bag(
        indices, matrix, starts, mode="sum", per_sample_weights=weights.contiguous(), include_last_offset=True
    )


class _ActivePreactivations(torch.autograd.Function):
    """``(inputs @ W_enc.T + bias)`` at the active positions; ``inputs`` are data and get no gradient."""

    @staticmethod
    def forward(
        ctx: Any, W_enc: Tensor, bias: Tensor, preactivations: Tensor | None, inputs: Tensor, pattern: SparsePattern
    ) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.pattern = pattern
        if preactivations is None:
            return pattern.sampled_product(inputs, W_enc) + bias[pattern.columns]
        return preactivations[pattern.rows, pattern.columns]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (inputs,) = ctx.saved_tensors
        pattern: SparsePattern = ctx.pattern
        return pattern.transposed_times(gradient, inputs), pattern.column_sums(gradient), None, None, None


class _SparseDecode(torch.autograd.Function):
    """``latents @ W_dec`` for sparse latents."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, W_dec: Tensor, pattern: SparsePattern) -> Tensor:
        ctx.save_for_backward(values, W_dec)
        ctx.pattern = pattern
        return pattern.times(values, W_dec)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0].contiguous()
        values, W_dec = ctx.saved_tensors
        pattern: SparsePattern = ctx.pattern
        return pattern.sampled_product(gradient, W_dec), pattern.transposed_times(values, gradient), None


def sparse_autoencode(
    inputs: Float[Tensor, "tokens width"],
    preactivations: Float[Tensor, "tokens n_latents"] | None,
    mask: Bool[Tensor, "tokens n_latents"],
    W_enc: Float[Tensor, "n_latents width"],
    bias: Float[Tensor, "n_latents"],
    W_dec: Float[Tensor, "n_latents width"],
) -> Float[Tensor, "tokens width"]:
    """``((inputs @ W_enc.T + bias) · mask) @ W_dec`` through the active latents only.

    ``preactivations`` is the encoder's product without a graph, if it exists already (the mask was chosen from
    it); if None, the active ones are computed. Gradients reach ``W_enc``, ``bias`` and ``W_dec``.
    """
    pattern = SparsePattern.from_mask(mask)
    values: Tensor = _ActivePreactivations.apply(W_enc, bias, preactivations, inputs, pattern)  # type: ignore[no-untyped-call]
    decoded: Tensor = _SparseDecode.apply(values, W_dec, pattern)  # type: ignore[no-untyped-call]
    return decoded


def dense_autoencode(
    inputs: Float[Tensor, "tokens width"],
    mask: Bool[Tensor, "tokens n_latents"],
    W_enc: Float[Tensor, "n_latents width"],
    bias: Float[Tensor, "n_latents"],
    W_dec: Float[Tensor, "n_latents width"],
) -> Float[Tensor, "tokens width"]:
    """The dense equivalent of :func:`sparse_autoencode`; for GPUs, and as its reference."""
    return torch.where(mask, F.linear(inputs, W_enc, bias), 0.0) @ W_dec
