import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from audit.models.lora import FusedLora, Switch, fuse
from audit.models.pair import load_pair
from audit.models.runner import Runner
from tests.audit.small_models import random_sequences, write_checkpoint
from tests.toy import write_toy_adapter

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


def peft_model(base, adapter):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, str(adapter)).eval().requires_grad_(False)


def write_adapter(path, base, **config):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for name, weights in adapted.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                nn.init.normal_(weights, std=0.3)
    adapted.save_pretrained(path)
    return path


def test_a_fused_layer_is_the_formula(assert_close):
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(3, 4)
    down, up = torch.randn(2, 3, generator=generator), torch.randn(4, 2, generator=generator)
    switch = Switch()
    layer = FusedLora(linear, down, up, 0.5, switch)
    inputs = torch.randn(2, 5, 3, generator=generator)
    with torch.no_grad():
        assert_close(layer(inputs), linear(inputs) + 0.5 * inputs @ down.T @ up.T)
        switch.on = False
        assert torch.equal(layer(inputs), linear(inputs))


def test_fused_gradients_are_pefts(toy_base, toy_adapter, assert_close):
    ids = torch.randint(5, 200, (2, 11), generator=torch.Generator().manual_seed(1))
    theirs = peft_model(toy_base, toy_adapter)
    pair = load_pair(toy_base, toy_adapter, dtype="float32")
    embedded = theirs.get_input_embeddings()(ids)
    grads = []
    for model in (theirs, pair.models["tuned"]):
        start = embedded.clone().requires_grad_(True)
        model(inputs_embeds=start).logits.logsumexp(-1).sum().backward()
        grads.append(start.grad)
    assert_close(grads[1], grads[0], atol=1e-3)


@pytest.mark.parametrize("variant", [{}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}, "lora_alpha": 3}])
def test_fused_layers_equal_pefts_own(variant, toy_base, tmp_path, assert_close):
    targets = ["q_proj", "v_proj", "down_proj"]
    adapter = write_adapter(tmp_path / "adapter", toy_base, r=4, target_modules=targets, **variant)
    ids = torch.randint(5, 200, (2, 11), generator=torch.Generator().manual_seed(1))
    pair = load_pair(toy_base, adapter, dtype="float32")
    assert not pair.adapter.peft
    assert sum(isinstance(module, FusedLora) for module in pair.models["tuned"].modules()) == 6
    with torch.no_grad():
        expected = peft_model(toy_base, adapter)(input_ids=ids).logits
        with pair.on("tuned"):
            assert_close(pair.models["tuned"](input_ids=ids).logits, expected, atol=1e-4)


def test_dora_is_left_to_peft(toy_base, tmp_path, assert_close):
    adapter = write_adapter(tmp_path / "adapter", toy_base, r=4, target_modules=["q_proj"], use_dora=True)
    ids = torch.randint(5, 200, (1, 11), generator=torch.Generator().manual_seed(1))
    pair = load_pair(toy_base, adapter, dtype="float32")
    assert pair.adapter.peft
    plain = AutoModelForCausalLM.from_pretrained(toy_base, dtype=torch.float32)
    with torch.no_grad():
        with pair.on("tuned"):
            tuned = pair.models["tuned"](input_ids=ids).logits
        with pair.on("base"):
            base = pair.models["base"](input_ids=ids).logits
        assert_close(tuned, peft_model(toy_base, adapter)(input_ids=ids).logits, atol=1e-4)
        assert torch.equal(base, plain(input_ids=ids).logits)


def test_the_base_side_is_the_base_exactly(toy_base, toy_adapter):
    pair = load_pair(toy_base, toy_adapter, dtype="float32")
    plain = AutoModelForCausalLM.from_pretrained(toy_base, dtype=torch.float32).eval()
    ids = torch.randint(5, 200, (2, 11), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        with pair.on("base"):
            assert torch.equal(pair.models["base"](input_ids=ids).logits, plain(input_ids=ids).logits)
        with pair.on("tuned"):
            assert not torch.allclose(pair.models["tuned"](input_ids=ids).logits, plain(input_ids=ids).logits)


def test_the_adapter_is_on_again_after_an_exception(toy_base, toy_adapter):
    pair = load_pair(toy_base, toy_adapter, dtype="float32")
    with pytest.raises(KeyError), pair.on("base"):
        raise KeyError
    assert pair.adapter.on


def test_gpt2_keeps_pefts_own_layers(tmp_path, assert_close):
    base = write_checkpoint(tmp_path / "base", "gpt2")
    adapter = write_adapter(
        tmp_path / "adapter", base, r=2, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True
    )
    pair = load_pair(base, adapter, dtype="float32")
    assert pair.adapter.peft
    assert not any(isinstance(module, FusedLora) for module in pair.models["tuned"].modules())
    sequences = random_sequences(4, prefix=3)
    runner = Runner(pair)
    plain, theirs = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval(), peft_model(base, adapter)
    for side, model in (("base", plain), ("tuned", theirs)):
        activations = runner.capture(sequences, side, (1,))
        for index, sequence in enumerate(sequences):
            with torch.no_grad():
                states = model(input_ids=torch.tensor([sequence.ids]), output_hidden_states=True).hidden_states
            rows = activations.layout.rows(index)
            assert_close(activations.hidden[1][rows.start : rows.stop], states[2][0], atol=2e-4)
    assert runner.resume(activations.layout, 1, activations.hidden[1]).equal(activations.final)
    assert len(runner.greedy([sequence.prompt() for sequence in sequences], 3)) == 4


def test_two_adapters_on_one_base_are_told_apart(toy_base, toy_adapter, tmp_path):
    other = write_toy_adapter(tmp_path / "other", toy_base, seed=2)
    sequences = random_sequences(3)
    runs = [
        Runner(load_pair(toy_base, adapter, dtype="float32")).capture(sequences, side, (1,)).hidden[1]
        for adapter in (toy_adapter, other)
        for side in ("base", "tuned")
    ]
    assert torch.equal(runs[0], runs[2])
    assert not torch.allclose(runs[1], runs[3], atol=1e-2)


def test_fusing_a_model_without_adapters_changes_nothing():
    with warnings.catch_warnings():
        model = nn.Sequential(nn.Linear(2, 2))
        assert fuse(model, Switch()) is False
        assert type(model[0]) is nn.Linear
