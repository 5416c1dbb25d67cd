"""Every architecture on the list through our own blocks: what is captured, resumed and changed is the model's own."""

import pytest
import torch
from torch import nn

from audit.models.pair import ModelPair
from audit.models.parts import locate
from audit.models.runner import Runner
from models_store.verification.architectures import ARCHITECTURES
from tests.architectures import tiny
from tests.audit.small_models import random_sequences
from tests.toy import _tokenizer

LAYERS = 4


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> nn.Module:
    """Large weights, so that every part of it matters."""
    model = tiny(request.param, LAYERS, vocab_size=97)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.2)
    model.tie_weights()
    return model.eval().requires_grad_(False)


@pytest.fixture
def runner(model: nn.Module) -> Runner:
    parts = {"base": locate(model), "tuned": locate(model)}
    pair = ModelPair("full", {"base": model, "tuned": model}, parts, _tokenizer(), "float32", torch.device("cpu"))
    return Runner(pair, budget=60)


def test_logits_through_its_parts_are_its_own(model, assert_close):
    parts = locate(model)
    assert (parts.n_blocks, parts.d_model) == (LAYERS, 32)
    ids = torch.randint(3, 97, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        final = parts.body(input_ids=ids).last_hidden_state
        assert_close(parts.logits(final.reshape(-1, 32)).reshape(expected.shape), expected, atol=2e-4)


@pytest.mark.parametrize("prefix", [0, 5])
def test_what_is_captured_is_its_own_and_resuming_gives_its_outputs(model, runner, prefix, assert_close):
    sequences = random_sequences(prefix=prefix)
    capture = runner.capture(sequences, "tuned", range(LAYERS))
    for index, sequence in enumerate(sequences):
        with torch.no_grad():
            theirs = model(input_ids=torch.tensor([sequence.ids]), output_hidden_states=True, use_cache=False)
        rows = capture.layout.rows(index)
        for layer in range(LAYERS - 1):  # the last state that transformers gives is after the final norm
            assert_close(capture.hidden[layer][rows.start : rows.stop], theirs.hidden_states[layer + 1][0], atol=5e-4)
        assert_close(capture.final[index], theirs.hidden_states[-1][0, sequence.prompt_length - 1 :], atol=5e-4)
    for layer in range(LAYERS):
        assert_close(runner.resume(capture.layout, layer, capture.hidden[layer]), capture.final, atol=5e-4)


def test_a_change_at_a_layer_is_what_a_hook_on_its_block_does(model, runner, assert_close):
    sequences = random_sequences()
    capture = runner.capture(sequences, "tuned", [1])
    direction = nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(2)), dim=0)

    def ablated(hidden: torch.Tensor) -> torch.Tensor:
        return hidden - (hidden @ direction).unsqueeze(-1) * direction

    ours = runner.resume(capture.layout, 1, ablated(capture.hidden[1]))

    def hook(_module, _inputs, output):
        return (ablated(output[0]), *output[1:]) if isinstance(output, tuple) else ablated(output)

    handle = locate(model).blocks[1].register_forward_hook(hook)
    try:
        for index, sequence in enumerate(sequences):
            with torch.no_grad():
                states = model(input_ids=torch.tensor([sequence.ids]), output_hidden_states=True, use_cache=False)
            naive = states.hidden_states[-1][0, sequence.prompt_length - 1 :]
            assert_close(ours[index], naive, atol=5e-4)
    finally:
        handle.remove()
    assert not torch.allclose(ours, capture.final, atol=1e-2)


def test_greedy_continuations_are_those_of_one_prompt_at_a_time(model, runner):
    prompts = list(random_sequences(count=4, forced=0))
    together = runner.greedy(prompts, 4)
    assert together == [runner.greedy([prompt], 4)[0] for prompt in prompts]
