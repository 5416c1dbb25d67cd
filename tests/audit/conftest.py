"""What the audit's tests share."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Toy sizes gain nothing from threads, and the machine is shared.

    A module's own fixtures come after it: an audit that a whole module shares has as many threads as its tests.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def assert_close() -> Callable[..., None]:
    """Compare tensors within ``atol + rtol · |expected|``; NaN equals NaN."""

    def check(actual: Tensor, expected: Tensor, *, atol: float = 1e-5, rtol: float = 1e-4) -> None:
        torch.testing.assert_close(actual, expected, atol=atol, rtol=rtol, check_dtype=False, equal_nan=True)

    return check
