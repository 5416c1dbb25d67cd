"""Of a model with several parts, the text part is audited as transformers computes it without images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from audit.models.pair import load_pair
from models_store.errors import ModelRejected
from models_store.verification.architectures import MULTIMODAL
from models_store.verification.pairs import check_pair
from models_store.verification.verify import verify_checkpoint, verify_view
from models_store.view import write_view
from tests.architectures import SIZES
from tests.toy import _tokenizer

ROWS = 320
VISION = {
    "hidden_size": 16, "num_hidden_layers": 1, "depth": 1, "num_attention_heads": 2, "num_heads": 2,
    "intermediate_size": 16, "image_size": 28, "patch_size": 14, "out_hidden_size": 32,
}  # fmt: skip


def tiny(model_type: str, seed: int = 0) -> nn.Module:
    configuration: Any = CONFIG_MAPPING[model_type]
    whole = configuration()
    text = whole.text_config.to_dict()
    text |= {key: value for key, value in (SIZES | {"vocab_size": ROWS}).items() if key in text}
    text |= {"num_hidden_layers": 2, "num_key_value_heads": 2}
    if "layer_types" in text:
        kinds = ["linear_attention", "full_attention"] if model_type == "qwen3_5" else ["sliding_attention"] * 2
        text["layer_types"] = kinds
    vision = whole.vision_config.to_dict()
    vision |= {key: value for key, value in VISION.items() if key in vision}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(configuration(text_config=text, vision_config=vision))
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.2)
    model.tie_weights()
    return model.float().eval()


def renamed(folder: Path, change: Callable[[str], str]) -> None:
    file = folder / "model.safetensors"
    tensors = {change(name): value for name, value in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})


def view(folder: Path, into: Path) -> Path:
    written = write_view(verify_checkpoint(folder), into)
    assert verify_view(written.folder, written.root).warnings == ()
    return written.folder


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("model_type", MULTIMODAL)
def test_the_text_part_is_loaded_and_computes_the_same(tmp_path, model_type, older, assert_close):
    models, views = [], []
    for seed, name in enumerate(("base", "tuned")):
        models.append(tiny(model_type, seed))
        models[-1].save_pretrained(tmp_path / name)
        _tokenizer().save_pretrained(tmp_path / name)
        if older and model_type == "qwen3_5":
            renamed(tmp_path / name, lambda name: name.replace("model.language_model.", "language_model.model."))
        elif older:
            renamed(tmp_path / name, lambda name: name.replace("language_model.model.", "model.language_model."))
        assert "text part was audited" in verify_checkpoint(tmp_path / name).warnings[0]
        views.append(view(tmp_path / name, tmp_path / "views" / name))
    pair = load_pair(*views, dtype="float32")
    ids = torch.randint(5, 200, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for side, model in zip(("base", "tuned"), models, strict=True):
            assert_close(pair.models[side](input_ids=ids).logits, model(input_ids=ids).logits, atol=2e-4)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], r".*language_model.*self_attn\.[qv]_proj"])
@pytest.mark.parametrize("model_type", MULTIMODAL)
def test_an_adapter_on_the_whole_is_one_on_its_text_part(tmp_path, model_type, targets, assert_close):
    whole = tiny(model_type)
    whole.save_pretrained(tmp_path / "base")
    _tokenizer().save_pretrained(tmp_path / "base")
    chosen = targets if isinstance(targets, str) else r".*language_model.*\.(q_proj|v_proj)"
    adapted = get_peft_model(whole, LoraConfig(r=2, target_modules=chosen, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weights in adapted.named_parameters():
            if "lora_" in name:
                weights += 0.3
    adapted.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": targets}))
    check_pair(verify_checkpoint(tmp_path / "base"), verify_checkpoint(tmp_path / "adapter"))
    pair = load_pair(
        *(view(tmp_path / name, tmp_path / "views" / name) for name in ("base", "adapter")), dtype="float32"
    )
    ids = torch.randint(5, 200, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = adapted(input_ids=ids).logits
        with pair.on("tuned"):
            assert_close(pair.models["tuned"](input_ids=ids).logits, expected, atol=2e-4)
        with pair.on("base"), adapted.disable_adapter():
            assert_close(pair.models["base"](input_ids=ids).logits, adapted(input_ids=ids).logits, atol=2e-4)


@pytest.mark.parametrize("foreign", ["language_model.model.layers.0.moe.weight", "evil.weight", "vision_towers.x"])
def test_tensors_of_no_part_are_refused(tmp_path, foreign):
    tiny("gemma3").save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    save_file(load_file(file) | {foreign: torch.zeros(2)}, file)
    with pytest.raises(ModelRejected, match="is not a tensor of a gemma3_text"):
        verify_checkpoint(tmp_path / "model")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "llava"}, "model_type"),
        ({"text_config": {"model_type": "llama"}}, "model_type"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "quantization_config"),
    ],
)
def test_another_whole_is_refused(tmp_path, changes, reason):
    tiny("gemma3").save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelRejected, match=reason):
        verify_checkpoint(tmp_path / "model")
