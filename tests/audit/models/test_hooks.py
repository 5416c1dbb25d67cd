"""Blocks watched and skipped, against what transformers itself gives."""

import pytest
import torch
from torch import nn

from audit.models.hooks import StopForward, contiguous_input, skip_to, watch
from audit.models.parts import locate
from tests.audit.small_models import LAYERS, VOCABULARY, small_model


@pytest.fixture(scope="module", params=["llama", "gpt2", "gpt_neox"])
def model(request):
    return small_model(request.param)


@pytest.fixture(scope="module")
def ids():
    return torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_what_is_watched_are_the_models_own_hidden_states(model, ids, assert_close):
    parts = locate(model)
    theirs = model(input_ids=ids, output_hidden_states=True).hidden_states
    with watch(parts, (0, 2)) as seen:
        parts.body(input_ids=ids)
    assert sorted(seen) == [0, 2]
    for layer, value in seen.items():
        assert_close(value, theirs[layer + 1])


@torch.no_grad()
def test_a_run_stops_after_the_last_watched_block_and_the_hooks_are_gone(model, ids):
    parts, later = locate(model), []
    hooks = [len(block._forward_hooks) for block in parts.blocks]
    handle = parts.blocks[2].register_forward_hook(lambda *_: later.append(1))
    with watch(parts, (0, 1), stop=True) as seen, pytest.raises(StopForward):
        parts.body(input_ids=ids)
    assert (sorted(seen), later) == ([0, 1], [])
    parts.body(input_ids=ids)
    handle.remove()
    assert later == [1]
    assert [len(block._forward_hooks) for block in parts.blocks] == hooks


def test_gradients_of_what_is_watched_are_kept(model, ids):
    parts = locate(model)
    hidden = parts.body.get_input_embeddings()(ids).requires_grad_()
    with watch(parts, (1,), keep_grad=True) as seen:
        final = parts.body(inputs_embeds=hidden).last_hidden_state
        (final * torch.arange(final.numel()).reshape(final.shape)).sum().backward()
    assert seen[1].grad.shape == seen[1].shape
    assert float(seen[1].grad.abs().sum()) > 0


@torch.no_grad()
def test_skipped_blocks_hand_on_what_they_are_given(model, ids, assert_close):
    parts = locate(model)
    whole = parts.body(input_ids=ids).last_hidden_state
    with watch(parts, (1,)) as seen:
        parts.body(input_ids=ids)
    kinds = []
    handle = parts.blocks[0].register_forward_hook(lambda _module, _inputs, output: kinds.append(type(output)))
    parts.body(input_ids=ids)
    handle.remove()
    ran = []
    handle = parts.blocks[1].register_forward_hook(lambda *_: ran.append(1))
    with skip_to(parts, 1, seen[1], as_tuple=kinds[0] is tuple):
        # Other tokens: nothing of the first two blocks counts.
        assert_close(parts.body(input_ids=ids.flip(0)).last_hidden_state, whole)
    handle.remove()
    assert not any("forward" in vars(block) for block in parts.blocks)
    assert_close(parts.body(input_ids=ids).last_hidden_state, whole)


def test_a_block_with_a_forward_of_its_own_gets_it_back():
    model = small_model("llama")
    parts = locate(model)
    own = parts.blocks[0].forward
    parts.blocks[0].forward = own
    with skip_to(parts, LAYERS - 1, torch.zeros(2, 9, 32), as_tuple=False):
        assert parts.blocks[0].forward is not own
    assert vars(parts.blocks[0])["forward"] is own
    assert "forward" not in vars(parts.blocks[1])


def test_a_linear_layer_gets_contiguous_inputs_and_gives_the_same(assert_close):
    layer, heard = nn.Linear(4, 3), []
    layer.register_forward_hook(lambda _module, inputs, _output: heard.append(inputs[0].is_contiguous()))
    inputs = torch.arange(24.0).reshape(2, 3, 4)[:, 1]
    assert not inputs.is_contiguous()
    plain = layer(inputs)
    with contiguous_input(layer):
        assert_close(layer(inputs), plain)
    layer(inputs)
    assert heard == [False, True, False]
