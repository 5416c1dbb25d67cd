"""Quantised safetensors give the weights that the libraries that wrote them read; numbers in doubt are refused.

``quantised/`` holds real files of these libraries. What no library writes on a CPU is written here, each format by the
definition that its library gives, element by element.
"""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from audit.errors import ModelRejected
from audit.models.loading import load_checkpoint
from audit.models.pair import load_pair
from models_store.errors import ModelRejected as Refused
from models_store.verification.verify import verify_checkpoint, verify_view
from models_store.view import write_view
from tests.architectures import tiny
from tests.audit.small_models import small_model, write_checkpoint
from tests.toy import _tokenizer

FOLDERS = Path(__file__).parent / "quantised"
REAL = sorted(path.parent.name for path in FOLDERS.glob("*/expected.safetensors"))
# Their libraries unpack into bfloat16.
ROUNDED = ("bnb-nf4", "bnb-fp4", "ct-")
IDS = torch.arange(3, 31).reshape(2, 14)


def loaded(folder, tmp_path):
    view = write_view(verify_checkpoint(folder), tmp_path / f"view-{folder.name}")
    assert verify_view(view.folder, view.root).tensors
    return load_checkpoint(view.folder, torch.float32, torch.device("cpu"))


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def changed(tmp_path, name, config=(), **tensors):
    """A copy of a real folder with other settings of its quantisation or other tensors of one module."""
    folder = shutil.copytree(FOLDERS / name, tmp_path / "changed")
    document = json.loads((folder / "config.json").read_text())
    document["quantization_config"] |= dict(config)
    (folder / "config.json").write_text(json.dumps(document))
    held = load_file(folder / "model.safetensors")
    for role, change in tensors.items():
        key = f"model.layers.0.mlp.down_proj.{role}"
        held[key] = change(held[key])
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def packed(folder, scheme, pack):
    """Put packed tensors in the place of a checkpoint's linear layers, and say so in its configuration."""
    held = load_file(folder / "model.safetensors")
    result = {}
    for name, value in held.items():
        result |= {name: value} if value.dim() != 2 or "embed" in name or "wte" in name else pack(name, value)
    save_file({name: value.contiguous() for name, value in result.items()}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": scheme}))
    return folder


def rows_of_fp8(name, value):
    """One scale for each row, as fbgemm and compressed-tensors have them."""
    scale = value.abs().amax(1, keepdim=True) / 448
    return {name: (value / scale).to(torch.float8_e4m3fn), f"{name}_scale": scale}


@pytest.mark.parametrize("name", REAL)
def test_real_files_hold_what_their_library_reads(tmp_path, name):
    model = loaded(FOLDERS / name, tmp_path)
    expected = load_file(FOLDERS / name / "expected.safetensors")
    for module, weight in expected.items():
        found = model.get_submodule(module).weight
        if name.startswith(ROUNDED):
            assert torch.equal(found.bfloat16().float(), weight), module
        else:
            torch.testing.assert_close(found, weight, atol=1e-7, rtol=1e-6)


def test_every_kind_is_among_the_real_files():
    kinds = {name.split("-")[0] for name in REAL}
    assert kinds == {"bnb", "gptq", "awq", "ct"}


def test_the_second_form_of_gptq_stores_zero_points_as_they_are(tmp_path):
    def more(zeros):
        return (zeros.long() + 0x11111111).to(torch.int32)

    folder = changed(tmp_path, "gptq-4bit-order", {"checkpoint_format": "gptq_v2"})
    held = load_file(folder / "model.safetensors")
    held |= {name: more(value) for name, value in held.items() if name.endswith("qzeros")}
    save_file(held, folder / "model.safetensors")
    assert torch.equal(logits(loaded(folder, tmp_path)), logits(loaded(FOLDERS / "gptq-4bit-order", tmp_path)))


def test_fp8_in_blocks(tmp_path):
    """Sizes that the blocks do not divide, and scales that are powers of two."""
    folder = write_checkpoint(tmp_path / "fp8", "llama")
    reference = {}

    def pack(name, value):
        rows, wide = value.shape
        grid = torch.empty(math.ceil(rows / 20), math.ceil(wide / 12))
        stored = torch.empty_like(value).to(torch.float8_e4m3fn)
        reference[name] = torch.empty_like(value)
        for row in range(grid.shape[0]):
            for column in range(grid.shape[1]):
                place = (slice(row * 20, row * 20 + 20), slice(column * 12, column * 12 + 12))
                grid[row, column] = 2 ** math.ceil(math.log2(float(value[place].abs().max()) / 448))
                stored[place] = (value[place] / grid[row, column]).to(torch.float8_e4m3fn)
                reference[name][place] = stored[place].float() * grid[row, column]
        return {name: stored, f"{name}_scale_inv": grid.to(torch.float8_e8m0fnu)}

    scheme = {"quant_method": "fp8", "weight_block_size": [20, 12], "activation_scheme": "dynamic", "fmt": "e4m3",
              "scale_fmt": "ue8m0"}  # fmt: skip
    model = loaded(packed(folder, scheme, pack), tmp_path)
    assert len(reference) > 10
    for name, weight in reference.items():
        assert torch.equal(model.get_parameter(name), weight), name


def test_fp8_in_rows_and_with_one_scale(tmp_path):
    def one(name, value):
        scale = value.abs().max() / 448
        return {
            name: (value / scale).to(torch.float8_e4m3fn), f"{name}_scale_inv": scale,
            name.removesuffix("weight") + "activation_scale": torch.ones(()),
        }  # fmt: skip

    for name, scheme, pack in (
        ("rows", {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, rows_of_fp8),
        ("one", {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}, one),
    ):
        folder = write_checkpoint(tmp_path / name, "llama")
        source = load_file(folder / "model.safetensors")
        model = loaded(packed(folder, scheme, pack), tmp_path)
        for key, value in source.items():
            # Three bits after the leading one; below the smallest normal number, steps of 2**-9 of the scale.
            torch.testing.assert_close(
                model.get_parameter(key), value, rtol=2**-4, atol=float(value.abs().max()) * 1e-5
            )


def test_weights_that_are_stored_the_other_way_round(tmp_path):
    """bitsandbytes makes linear layers of GPT-2's, and so turns their weights."""
    model = small_model("gpt2", vocab_size=len(_tokenizer()))
    model.save_pretrained(tmp_path / "gpt2")
    _tokenizer().save_pretrained(tmp_path / "gpt2")
    source = load_file(tmp_path / "gpt2" / "model.safetensors")

    def pack(name, value):
        if "wpe" in name:
            return {name: value}
        scale = value.T.abs().amax(1)
        stored = torch.round(value.T * 127 / scale[:, None]).to(torch.int8)
        return {name: stored, name.replace("weight", "SCB"): scale,
                name.replace("weight", "weight_format"): torch.tensor(0, dtype=torch.uint8)}  # fmt: skip

    scheme = {"load_in_8bit": True, "quant_method": "bitsandbytes", "llm_int8_threshold": 6.0}
    found = dict(loaded(packed(tmp_path / "gpt2", scheme, pack), tmp_path).named_parameters())
    for name, value in source.items():
        torch.testing.assert_close(found[name], value, atol=float(value.abs().max()) / 250, rtol=0)


def test_experts_are_unpacked_each(tmp_path):
    torch.manual_seed(0)
    tiny("mixtral", vocab_size=len(_tokenizer())).save_pretrained(tmp_path / "mixtral")
    source = load_file(tmp_path / "mixtral" / "model.safetensors")
    expected = AutoModelForCausalLM.from_pretrained(tmp_path / "mixtral", dtype=torch.float32)
    scheme = {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "ignore": ["lm_head", "re:.*gate$"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False},
            }
        },
    }
    folder = packed(
        tmp_path / "mixtral", scheme,
        lambda name, value: {name: value} if "gate.weight" in name or "head" in name else rows_of_fp8(name, value),
    )  # fmt: skip
    rounded = {}
    for name, value in source.items():
        pair = rows_of_fp8(name, value) if "experts" in name or "_proj" in name else None
        rounded[name] = value if pair is None else pair[name].float() * pair[f"{name}_scale"]
    shutil.copytree(folder, tmp_path / "plain")
    save_file(rounded, tmp_path / "plain" / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    del config["quantization_config"]
    (tmp_path / "plain" / "config.json").write_text(json.dumps(config))
    reference = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32)
    assert torch.equal(logits(loaded(folder, tmp_path)), logits(reference))
    assert not torch.equal(logits(expected), logits(reference))


def test_microscaled_experts_are_what_transformers_makes_of_them(tmp_path):
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    tiny(
        "gpt_oss", vocab_size=len(_tokenizer()), hidden_size=32, intermediate_size=32, num_local_experts=2
    ).save_pretrained(tmp_path / "oss")
    held = load_file(tmp_path / "oss" / "model.safetensors")
    expected = {}
    for name in [name for name in held if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, wide, rows = held.pop(name).shape
        blocks = torch.randint(256, (experts, rows, wide // 32, 16), dtype=torch.uint8)
        scales = torch.randint(118, 124, (experts, rows, wide // 32), dtype=torch.uint8)
        held |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        expected[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    save_file(held, tmp_path / "oss" / "model.safetensors", metadata={"format": "pt"})
    path = tmp_path / "oss" / "config.json"
    scheme = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": scheme}))
    model = loaded(tmp_path / "oss", tmp_path)
    assert len(expected) >= 2
    for name, value in expected.items():
        assert torch.equal(model.get_parameter(name), value)


def test_the_text_part_of_a_quantised_model_with_several(tmp_path):
    config = transformers.Gemma3Config(
        text_config={
            "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8,
            "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 6, "query_pre_attn_scalar": 8,
        },
        vision_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 28, "patch_size": 14,
        }, mm_tokens_per_image=4,
    )  # fmt: skip
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "whole")
    source = load_file(tmp_path / "whole" / "model.safetensors")
    scheme = {"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["vision_tower", "multi_modal_projector"]}
    folder = packed(
        tmp_path / "whole", scheme,
        lambda name, value: rows_of_fp8(name, value) if "language_model" in name else {name: value},
    )  # fmt: skip
    model = loaded(folder, tmp_path)
    name = next(name for name in source if "language_model" in name and name.endswith("1.mlp.down_proj.weight"))
    again = rows_of_fp8("x", source[name])
    assert torch.equal(
        model.get_parameter("model.layers.1.mlp.down_proj.weight"), again["x"].float() * again["x_scale"]
    )


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_on_a_quantised_base(tmp_path):
    """QLoRA: the base's weights are dequantised, and the adapter is put on them."""
    from peft import LoraConfig, get_peft_model

    base = shutil.copytree(FOLDERS / "bnb-nf4-double", tmp_path / "base")
    _tokenizer().save_pretrained(base)
    config = json.loads((base / "config.json").read_text())
    vocabulary = len(_tokenizer())
    held = load_file(base / "model.safetensors")
    held["model.embed_tokens.weight"] = torch.randn(vocabulary, 64, dtype=torch.bfloat16)
    save_file(held, base / "model.safetensors", metadata={"format": "pt"})
    (base / "config.json").write_text(json.dumps(config | {"vocab_size": vocabulary}))
    model = loaded(base, tmp_path)
    before = logits(model)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    shutil.rmtree(tmp_path / "view-base")
    folders = [write_view(verify_checkpoint(tmp_path / name), tmp_path / f"v-{name}").folder
               for name in ("base", "adapter")]  # fmt: skip
    pair = load_pair(*folders, dtype="float32", device="cpu")
    assert pair.kind == "lora"
    with pair.on("base"):
        torch.testing.assert_close(logits(pair.models["base"]), before, atol=1e-5, rtol=1e-5)
    with pair.on("tuned"):
        torch.testing.assert_close(logits(pair.models["tuned"]), logits(adapted), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "config", "tensors", "match"),
    [
        ("gptq-8bit", {}, {"qzeros": lambda old: old ^ 1}, "symmetric"),
        ("gptq-2bit", {}, {"qzeros": lambda old: old | 3}, "zero point of 0"),
        ("gptq-4bit-order", {"desc_act": False}, {}, "desc_act"),
        ("gptq-4bit-order", {}, {"g_idx": lambda old: old + 100}, "names a group"),
        ("gptq-4bit-order", {}, {"g_idx": lambda old: old - 1}, "names a group"),
        ("bnb-nf4-double", {}, {"weight.quant_map": lambda old: old.flip(0)}, "other levels"),
        ("bnb-8bit", {}, {"SCB": lambda old: old * math.nan}, "NaN"),
    ],
)
def test_numbers_that_libraries_read_in_different_ways_are_refused(tmp_path, name, config, tensors, match):
    folder = changed(tmp_path, name, config, **tensors)
    with pytest.raises(ModelRejected, match=match):
        loaded(folder, tmp_path)


def test_rows_in_an_order_of_their_own_are_refused(tmp_path):
    folder = changed(tmp_path, "bnb-8bit", weight_format=lambda old: old + 1)
    with pytest.raises(Refused, match="order of its own"):
        verify_checkpoint(folder)
