import pytest
import torch
import transformers
from torch import nn

from audit.errors import LayerNotFound, UnsupportedArchitecture
from audit.models.depths import auto_layers
from audit.models.parts import locate, resolve_layers
from tests.audit.small_models import LAYERS, SHAPES, VOCABULARY, random_sequences, small_model, small_runner


@pytest.mark.parametrize("shape", SHAPES)
def test_every_supported_shape_is_located(shape, assert_close):
    model = small_model(shape)
    parts = locate(model)
    assert (parts.n_blocks, parts.d_model) == (LAYERS, 32)
    assert parts.softcap == (3.0 if shape == "gemma2" else None)
    ids = torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        final = parts.body(input_ids=ids).last_hidden_state
        assert_close(parts.logits(final.reshape(-1, 32)).reshape(expected.shape), expected)
    # With gradients the head itself is run, not our slices of its weight.
    with torch.enable_grad():
        assert_close(parts.logits(final.reshape(-1, 32)).reshape(expected.shape), expected)


@pytest.mark.parametrize("prefix", [0, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_captures_are_the_models_own_hidden_states(shape, prefix, assert_close):
    runner = small_runner(shape, budget=40)
    sequences = random_sequences(prefix=prefix)
    activations = runner.capture(sequences, "tuned", range(LAYERS))
    model = runner.pair.models["tuned"]
    for index, sequence in enumerate(sequences):
        with torch.no_grad():
            theirs = model(input_ids=torch.tensor([sequence.ids]), output_hidden_states=True, use_cache=False)
        rows = activations.layout.rows(index)
        for layer in range(LAYERS - 1):  # the last state that transformers gives is after the final norm
            ours = activations.hidden[layer][rows.start : rows.stop]
            assert_close(ours, theirs.hidden_states[layer + 1][0], atol=2e-4)
        assert_close(activations.final[index], theirs.hidden_states[-1][0, sequence.prompt_length - 1 :], atol=2e-4)


@pytest.mark.parametrize("prefix", [0, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_resume_from_any_layer_gives_the_same_outputs(shape, prefix):
    runner = small_runner(shape, budget=60)
    activations = runner.capture(random_sequences(prefix=prefix), "tuned", range(LAYERS))
    for layer in range(LAYERS):
        resumed = runner.resume(activations.layout, layer, activations.hidden[layer])
        assert torch.equal(resumed, activations.final), layer
    changed = runner.resume(activations.layout, 1, activations.hidden[1].flip(0))
    assert not torch.allclose(changed, activations.final, atol=1e-2)


def test_an_unknown_place_of_the_blocks_is_refused_by_name():
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, is_decoder=True
    )
    with pytest.raises(UnsupportedArchitecture, match="'bert'") as caught:
        locate(transformers.BertLMHeadModel(config))
    assert "Llama" in caught.value.hint
    assert caught.value.code == "model_rejected"


def test_a_head_that_does_more_than_we_reproduce_is_refused():
    model = small_model("llama")
    model.config.lm_head_multiplier = 0.5
    with pytest.raises(UnsupportedArchitecture, match="lm_head_multiplier"):
        locate(model)


def test_a_module_that_is_no_language_model_is_refused():
    with pytest.raises(UnsupportedArchitecture, match="Linear"):
        locate(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("blocks", "layers"),
    [(32, (14, 18, 22, 26)), (30, (13, 17, 21, 24)), (12, (5, 7, 8, 10)), (4, (2, 3)), (2, (1,)), (1, (0,))],
)
def test_auto_layers(blocks, layers):
    assert auto_layers(blocks) == layers
    assert resolve_layers("auto", blocks) == layers


def test_layers_by_number():
    assert resolve_layers((3, 0), 4) == (0, 3)
    with pytest.raises(LayerNotFound, match=r"layer 4 does not exist.*0 to 3"):
        resolve_layers((0, 4), 4)
