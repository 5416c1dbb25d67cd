"""What the audit's tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from audit.measure.extraction import Extraction, extract
from audit.measure.preflight import prepare
from audit.models.pair import load_pair
from audit.models.runner import Runner
from tests.audit.recording import Counting
from tests.toy import toy_spec


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


@pytest.fixture(scope="session")
def toy_extraction(toy_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Extraction:
    """The toy pair's activations and decoys in a workspace that remembers what was written; do not change it."""
    pair = load_pair(toy_models / "base", toy_models / "adapter", dtype="float32", device="cpu")
    setup = prepare(toy_spec(layers=(0, 1)), pair, Runner(pair), base_digest="sha256:base", cache=None)
    store = Counting(tmp_path_factory.mktemp("extraction") / "w")
    return extract(setup, store, lambda fraction, message: None)
