"""Activations in memory, and the order in which tokens are shown to a dictionary: every group gets the same share."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audit.dictionaries.base import TokenBatch, require, require_shape


@dataclass(frozen=True, eq=False)
class TensorSource:
    """An activation source over tensors, memory-mapped ones included (``torch.from_numpy(np.memmap(...))``).

    Raises:
        ValueError: shapes differ, or there are no tokens.
    """

    base: Float[Tensor, "tokens d_model"]
    tuned: Float[Tensor, "tokens d_model"]
    groups: Int[Tensor, "tokens"]

    def __post_init__(self) -> None:
        require(self.base.ndim == 2 and self.base.shape[0] > 0, "base must be [tokens d_model] with at least one token")
        require_shape("tuned", self.tuned, tuple(self.base.shape))
        require_shape("groups", self.groups, (self.base.shape[0],))

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return self.base.shape[0]

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.base.shape[1]

    def batch(self, indices: Int[Tensor, "batch"]) -> TokenBatch:
        """The tokens at ``indices``."""
        return TokenBatch(self.base[indices], self.tuned[indices])


class BalancedOrder:
    """Endless token indices in which every group has the same share, whatever its size.

    Each group's members are shown in random order, all of them once before any comes again. A block has the same number
    from every group, and is shuffled.
    """

    def __init__(self, groups: Int[Tensor, "tokens"], generator: torch.Generator, *, block: int = 65_536) -> None:
        require(groups.numel() > 0, "there are no tokens")
        self._generator = generator
        self._streams = [
            _GroupStream((groups == group).nonzero().squeeze(1), generator) for group in torch.unique(groups)
        ]
        self._share = max(1, block // len(self._streams))
        self._waiting = torch.zeros(0, dtype=torch.long)

    def take(self, count: int) -> Int[Tensor, "count"]:
        """The next ``count`` indices."""
        while self._waiting.numel() < count:
            block = torch.cat([stream.take(self._share) for stream in self._streams])
            block = block[torch.randperm(block.numel(), generator=self._generator)]
            self._waiting = torch.cat([self._waiting, block])
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken


class _GroupStream:
    """The members of one group in random order, over and over."""

    def __init__(self, members: Int[Tensor, "members"], generator: torch.Generator) -> None:
        self._members = members
        self._generator = generator
        self._rest = members[:0]

    def take(self, count: int) -> Int[Tensor, "count"]:
        size = self._members.numel()
        rounds = max(0, -(-(count - self._rest.numel()) // size))
        # Sorting a row of random keys gives one random order; all rounds are sorted at once, because a group may be
        # much smaller than its share of a block.
        orders = torch.rand(rounds, size, generator=self._generator, dtype=torch.float64).argsort(dim=1)
        pool = torch.cat([self._rest, self._members[orders.reshape(-1)]])
        self._rest = pool[count:]
        return pool[:count]
