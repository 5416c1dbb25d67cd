"""What the dictionary tests share: one tolerance helper and small data with a known answer."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from audit.dictionaries import TensorSource


@pytest.fixture(scope="session")
def assert_close() -> Callable[..., None]:
    """Compare tensors within ``atol + rtol · |expected|``; NaN equals NaN."""

    def check(actual: Tensor, expected: Tensor, *, atol: float = 1e-5, rtol: float = 1e-4) -> None:
        torch.testing.assert_close(actual, expected, atol=atol, rtol=rtol, check_dtype=False, equal_nan=True)

    return check


class Planted(NamedTuple):
    """Activations whose differences are sparse sums of known directions."""

    directions: Tensor
    source: TensorSource


@pytest.fixture(scope="session")
def planted() -> Planted:
    """48 directions in 32 dimensions, three active a token, on top of a static shift; four groups of unequal size."""
    generator = torch.Generator().manual_seed(7)
    tokens, d_model, features = 12_000, 32, 48
    directions = F.normalize(torch.randn(features, d_model, generator=generator), dim=1)
    active = torch.rand(tokens, features, generator=generator) < 3 / features
    strengths = active * (0.5 + torch.rand(tokens, features, generator=generator))
    shift = F.normalize(torch.randn(d_model, generator=generator), dim=0)
    delta = 7.0 * (strengths @ directions + shift + 0.01 * torch.randn(tokens, d_model, generator=generator))
    base = 20.0 * torch.randn(tokens, d_model, generator=generator)
    groups = torch.bucketize(torch.arange(tokens), torch.tensor([6_000, 9_000, 11_000]), right=True)
    return Planted(directions, TensorSource(base, base + delta, groups))


@pytest.fixture(scope="session")
def planted_pair() -> Planted:
    """Both models' activations as sparse sums: 24 shared directions, 6 that only the fine-tuned model has, 6 base only.

    ``directions`` lists the shared ones first, then the fine-tuned-only, then the base-only ones.
    """
    generator = torch.Generator().manual_seed(8)
    tokens, d_model, features = 12_000, 32, 36
    directions = F.normalize(torch.randn(features, d_model, generator=generator), dim=1)
    active = torch.rand(tokens, features, generator=generator) < 3 / features
    strengths = active * (0.5 + torch.rand(tokens, features, generator=generator))
    in_base = torch.ones(features)
    in_base[24:30] = 0.0
    in_tuned = torch.ones(features)
    in_tuned[30:] = 0.0
    noise = 0.01 * torch.randn(2, tokens, d_model, generator=generator)
    base = 5.0 * ((strengths * in_base) @ directions + noise[0])
    tuned = 5.0 * ((strengths * in_tuned) @ directions + noise[1])
    return Planted(directions, TensorSource(base, tuned, torch.zeros(tokens, dtype=torch.long)))
