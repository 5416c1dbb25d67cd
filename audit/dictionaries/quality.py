"""How well a dictionary reconstructs, and how sparsely."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audit.dictionaries.base import ActivationSource, Dictionary, TokenBatch, require

_TOP_SHARE = 0.01
_CHUNK = 4_096


@dataclass(frozen=True)
class Quality:
    """Reconstruction and sparsity of one dictionary on one set of tokens."""

    fve: float
    """Fraction of variance explained: 1 − Σ‖x − x̂‖² / Σ‖x − mean‖²; 0 if nothing varies."""
    fve_top1pct: float
    """The same sums over the 1% of tokens with the largest ‖Δ‖; deviations are still from the mean over all tokens."""
    l0: float
    """Active latents per token."""
    dead_share: float
    """Share of latents that fire on none of the tokens."""
    var_ratio: float
    """Var(Δ) / Var(base), both summed over dimensions; 0 if the base does not vary."""


def read(source: ActivationSource, indices: Int[Tensor, "tokens"], device: torch.device | str = "cpu") -> TokenBatch:
    """The tokens at ``indices`` on ``device``, in file order, because memory-mapped reads are faster sequentially."""
    return TokenBatch(*source.batch(indices.sort().values)).to(device)


@torch.no_grad()
def measure(
    dictionary: Dictionary,
    source: ActivationSource,
    indices: Int[Tensor, "tokens"],
    *,
    device: torch.device | str = "cpu",
) -> Quality:
    """The quality of ``dictionary`` on the given tokens of ``source``.

    They are read twice, in chunks: once for the means, once to encode.

    Raises:
        ValueError: there are no tokens.
    """
    require(indices.numel() > 0, "there are no tokens to measure on")
    target, delta, base = _Moments(), _Moments(), _Moments()
    sizes = []
    for batch in _chunks(source, indices, device):
        target.add(dictionary.target(batch))
        delta.add(batch.delta)
        base.add(batch.base.float())
        sizes.append(batch.delta.norm(dim=1))
    smallest_of_top = torch.cat(sizes).topk(max(1, round(_TOP_SHARE * indices.numel()))).values.min()

    error, error_top, deviation, deviation_top, active = 0.0, 0.0, 0.0, 0.0, 0
    fired = torch.zeros(dictionary.n_latents, dtype=torch.bool, device=device)
    for batch in _chunks(source, indices, device):
        wanted = dictionary.target(batch)
        latents = dictionary.encode(batch)
        top = batch.delta.norm(dim=1) >= smallest_of_top
        missed = (wanted - dictionary.decode(latents)).square().sum(dim=1).double()
        from_mean = (wanted - target.mean).square().sum(dim=1).double()
        error, error_top = error + float(missed.sum()), error_top + float(missed[top].sum())
        deviation, deviation_top = deviation + float(from_mean.sum()), deviation_top + float(from_mean[top].sum())
        active += int((latents > 0.0).sum())
        fired |= (latents > 0.0).any(dim=0)
    return Quality(
        fve=_explained(error, deviation),
        fve_top1pct=_explained(error_top, deviation_top),
        l0=active / indices.numel(),
        dead_share=float((~fired).float().mean()),
        var_ratio=delta.variance / base.variance if base.variance > 0.0 else 0.0,
    )


class _Moments:
    """Running mean and total variance of rows."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Float[Tensor, "width"] | float = 0.0
        self._squares = 0.0

    def add(self, rows: Float[Tensor, "tokens width"]) -> None:
        self._count += rows.shape[0]
        self._sum = rows.double().sum(dim=0) + self._sum
        self._squares += float(rows.double().square().sum())

    @property
    def mean(self) -> Float[Tensor, "width"]:
        return (torch.as_tensor(self._sum) / self._count).float()

    @property
    def variance(self) -> float:
        mean = torch.as_tensor(self._sum) / self._count
        return max(0.0, self._squares / self._count - float(mean.square().sum()))


def _chunks(source: ActivationSource, indices: Tensor, device: torch.device | str) -> Iterator[TokenBatch]:
    for chunk in torch.split(indices.sort().values, _CHUNK):
        yield read(source, chunk, device)


def _explained(error: float, deviation: float) -> float:
    return 1.0 - error / deviation if deviation > 0.0 else 0.0
