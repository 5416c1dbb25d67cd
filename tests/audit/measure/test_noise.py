"""τ is measured once per base, carriers and clean string, and never where two shapes would agree."""

import json

import pytest

from audit.measure.noise import SMALLEST, _key, _other_budget, numeric_noise
from audit.prompts.rendering import Tokens
from tests.audit.recording import Counting


@pytest.fixture
def store(tmp_path):
    return Counting(tmp_path / "w")


@pytest.fixture
def cache(tmp_path):
    return Counting(tmp_path / "cache")


def test_noise_is_above_zero_and_small_beside_any_effect_that_counts(toy_extraction, store):
    noise = numeric_noise(toy_extraction.setup, store)
    assert SMALLEST <= noise < 1e-3
    stored = json.loads((store.find("noise") / "noise.json").read_text())
    assert stored == {"noise_nats": noise}


def test_a_second_attempt_and_a_second_audit_of_the_base_do_not_measure_again(toy_extraction, store, cache, tmp_path):
    noise = numeric_noise(toy_extraction.setup, store, base_digest="sha256:1", cache=cache)
    (name,) = cache.names()
    for folders, own in ((store, "noise"), (cache, name)):
        (folders.find(own) / "noise.json").write_text(json.dumps({"noise_nats": 2 * noise}))
    assert numeric_noise(toy_extraction.setup, store) == 2 * noise
    other = Counting(tmp_path / "other")
    assert numeric_noise(toy_extraction.setup, other, base_digest="sha256:1", cache=cache) == 2 * noise
    assert other.written == []
    assert cache.written == [name]


def test_without_a_digest_of_the_base_nothing_is_shared(toy_extraction, store, cache):
    numeric_noise(toy_extraction.setup, store, cache=cache)
    assert cache.written == []


def test_the_key_follows_base_and_prompts(toy_extraction):
    setup = toy_extraction.setup
    prompts = setup.tokens(setup.a[:3], setup.trigger.clean, "base")
    key = _key(setup, prompts, "sha256:1")
    assert key == _key(setup, list(prompts), "sha256:1")
    others = {_key(setup, prompts[:2], "sha256:1"), _key(setup, prompts[::-1], "sha256:1"), _key(setup, prompts, "")}
    assert len({key} | others) == 4


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [((10, 10, 10, 10), 1_000, 20), ((10, 10, 10, 10), 20, 10), ((30,), 10, 30), ((10, 4), 1_000, 10)],
)
def test_the_other_shape_is_about_half_a_batch_and_holds_one_sequence(lengths, budget, expected):
    sequences = [Tokens(tuple(range(length)), length, 0) for length in lengths]
    assert _other_budget(sequences, budget) == expected
