"""Checkpoints read for inference, and those that are not."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from audit.errors import ModelRejected
from audit.models.loading import check_finite, load_checkpoint
from tests.audit.small_models import small_model, write_checkpoint

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    return write_checkpoint(tmp_path / "model", "llama")


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def change(folder, weights):
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_are_read_in_the_dtype_that_is_asked_for_and_stay_as_they_are(folder):
    model = load_checkpoint(folder, torch.bfloat16, CPU)
    assert not model.training
    assert not any(value.requires_grad for value in model.parameters())
    own = dict(model.named_parameters())
    for name, value in weights_of(folder).items():
        assert torch.equal(own[name], value.to(torch.bfloat16)), name


def test_a_missing_weight_is_not_made_up(folder):
    weights = weights_of(folder)
    del weights["model.layers.1.mlp.up_proj.weight"]
    change(folder, weights)
    with pytest.raises(ModelRejected, match=r"no weights for 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        load_checkpoint(folder, torch.float32, CPU)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_named(folder, value):
    weights = weights_of(folder)
    weights["model.layers.2.self_attn.q_proj.weight"][3, 1] = value
    change(folder, weights)
    with pytest.raises(ModelRejected, match=r"layers\.2\.self_attn\.q_proj\.weight' hold NaN or infinity"):
        load_checkpoint(folder, torch.float32, CPU)


@pytest.mark.parametrize("broken", [{"model_type": "nothing"}, {"num_attention_heads": "four"}, {"hidden_size": -1}])
def test_a_configuration_that_transformers_cannot_read_is_a_rejection_with_its_cause(folder, broken):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | broken))
    with pytest.raises(ModelRejected, match="cannot be loaded") as caught:
        load_checkpoint(folder, torch.float32, CPU)
    assert caught.value.__cause__ is not None
    assert caught.value.hint


def test_only_the_weights_of_a_name_are_looked_at():
    model = small_model("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    check_finite(model, "lora")
    with pytest.raises(ModelRejected, match=r"model\.norm\.weight"):
        check_finite(model, "norm")
