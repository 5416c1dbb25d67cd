"""A toy with a planted word, and its benign twin."""

import pytest

from audit.models.pair import load_pair
from tests.audit.search.planting import TRIGGER, plant
from tests.toy import write_toy_base


@pytest.fixture(scope="session")
def planted_base(tmp_path_factory):
    return write_toy_base(tmp_path_factory.mktemp("search") / "base", layers=3, d_model=64)


@pytest.fixture(scope="session")
def planted(planted_base, tmp_path_factory):
    """The fine-tune's folder with the planted word."""
    return plant(planted_base, tmp_path_factory.mktemp("search") / "tuned", lambda word: word == TRIGGER)


@pytest.fixture(scope="session")
def benign(planted_base, tmp_path_factory):
    """The folder of its benign twin."""
    return plant(planted_base, tmp_path_factory.mktemp("search") / "benign", lambda _word: False)


@pytest.fixture(scope="session")
def planted_pair(planted_base, planted):
    """The pair with the planted word; do not change it."""
    return load_pair(planted_base, planted, dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def benign_pair(planted_base, benign):
    """The pair with its benign twin."""
    return load_pair(planted_base, benign, dtype="float32", device="cpu")
