"""Headers of quantised safetensors are checked as strictly as plain ones: what is packed must be what it stands for."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backdoor_audit.contract.checkpoint_files import QUANTISED_SOURCES
from models_store.check import check_folder
from models_store.errors import ModelRejected, ModelsIncompatible
from models_store.verification.pairs import check_pair
from models_store.verification.verify import verify_checkpoint
from models_store.view import write_view
from tests.audit.small_models import write_checkpoint
from tests.models_store.wild.folders import Folder
from tests.packed import write_gguf

FOLDERS = Path(__file__).parents[2] / "audit" / "models" / "quantised"
DOWN = "model.layers.0.mlp.down_proj"


def copied(tmp_path, name, config=None, change=None):
    """A copy of a real folder whose settings or tensors are changed."""
    folder = shutil.copytree(FOLDERS / name, tmp_path / name)
    document = json.loads((folder / "config.json").read_text())
    document["quantization_config"] = (config or dict)(document["quantization_config"])
    (folder / "config.json").write_text(json.dumps(document))
    if change is not None:
        held = load_file(folder / "model.safetensors")
        change(held)
        save_file({key: value.contiguous() for key, value in held.items()}, folder / "model.safetensors")
    return folder


def setting(**values):
    return lambda given: given | values


def without(role):
    return lambda held: held.pop(f"{DOWN}.{role}")


def cut(role, axis=0):
    def change(held):
        value = held[f"{DOWN}.{role}"]
        held[f"{DOWN}.{role}"] = value.narrow(axis, 0, value.shape[axis] - 1)

    return change


def typed(role, dtype):
    return lambda held: held.update({f"{DOWN}.{role}": held[f"{DOWN}.{role}"].to(dtype)})


def state(**values):
    """Other words in bitsandbytes' description of a weight."""

    def change(held):
        key = next(key for key in held if key.startswith(f"{DOWN}.weight.quant_state"))
        described = json.loads(bytes(held[key].tolist())) | values
        held[key] = torch.tensor(list(json.dumps(described).encode()), dtype=torch.uint8)

    return change


def weights(**values):
    def change(given):
        group = given["config_groups"]["group_0"]
        return given | {"config_groups": {"group_0": group | {"weights": group["weights"] | values}}}

    return change


def add(name, value):
    return lambda held: held.update({name: value})


@pytest.mark.parametrize(
    ("name", "config", "change", "match"),
    [
        ("gptq-8bit", setting(quant_method="hqq"), None, "'hqq'"),
        ("gptq-8bit", setting(quant_method=None), None, "names no method"),
        ("gptq-8bit", lambda given: "gptq", None, "must be an object"),
        ("gptq-8bit", setting(bits=5), None, "bits"),
        ("gptq-8bit", setting(bits=4), None, "down_proj' has|do not fit|is not there|asks for"),
        ("gptq-8bit", setting(checkpoint_format="marlin"), None, "checkpoint_format"),
        ("gptq-8bit", setting(group_size=0), None, "group_size"),
        ("gptq-8bit", setting(group_size=16), None, "groups of 16"),
        ("gptq-8bit", setting(dynamic={"+:.*": {"bits": 4}}), None, "'quantization_config.dynamic'"),
        ("gptq-8bit", setting(rotation="hadamard"), None, "rotation"),
        ("gptq-8bit", setting(modules_to_not_convert=["down_proj"]), None, "says that it is not"),
        ("gptq-8bit", setting(modules_to_not_convert="down_proj"), None, "list of names"),
        ("gptq-8bit", None, without("qzeros"), "lacks a part"),
        ("gptq-8bit", None, without("qweight"), "is not a tensor|is not there"),
        ("gptq-8bit", None, cut("qweight", 1), "do not fit"),
        ("gptq-8bit", None, cut("g_idx"), "do not fit"),
        ("gptq-8bit", None, typed("scales", torch.int32), "lacks a part"),
        ("gptq-8bit", None, add(f"{DOWN}.weight", torch.zeros(64, 96)), "quantised and not quantised"),
        ("gptq-8bit", None, add(f"{DOWN}.lut", torch.zeros(4)), "is not a tensor"),
        ("gptq-3bit", None, cut("qzeros", 1), "do not fit"),
        ("awq-gemm", setting(version="gemv"), None, "version"),
        ("awq-gemm", setting(zero_point=False), None, "zero_point"),
        ("awq-gemm", None, cut("scales"), "do not fit"),
        ("awq-gemm", None, cut("qzeros", 1), "do not fit"),
        ("bnb-8bit", setting(load_in_8bit=False), None, "one of load_in_8bit"),
        ("bnb-8bit", None, without("SCB"), "needs one 'SCB'"),
        ("bnb-8bit", None, cut("SCB"), "needs one 'SCB'"),
        ("bnb-nf4-double", setting(bnb_4bit_quant_type="fp4"), None, "none is"),
        ("bnb-nf4-double", None, state(shape=[64, 97]), "does not hold"),
        ("bnb-nf4-double", None, state(shape=[96, 64]), "asks for"),
        ("bnb-nf4-double", None, state(shape=[2**40, 2**40]), "describes no shape"),
        ("bnb-nf4-double", None, state(shape=[-64, -96]), "describes no shape"),
        ("bnb-nf4-double", None, state(blocksize=0), "describes no shape"),
        ("bnb-nf4-double", None, state(blocksize=128), "does not hold"),
        ("bnb-nf4-double", None, state(nested_offset=None), "not known"),
        ("bnb-nf4-double", None, state(quant_type="fp4"), "does not hold"),
        ("bnb-nf4-double", None, state(padding="x" * 5_000), "lacks a part"),
        ("bnb-nf4-double", None, without("weight.nested_absmax"), "not known"),
        ("bnb-nf4-double", None, without("weight.absmax"), "lacks a part"),
        ("bnb-fp4", None, typed("weight.absmax", torch.float16), "another type"),
        ("ct-fp8-block", weights(strategy="channel"), None, "has scales"),
        ("ct-fp8-block", weights(block_structure=[16, 16]), None, "has scales"),
        ("ct-fp8-block", weights(block_structure=None), None, "block_structure"),
        ("ct-fp8-tensor", weights(dynamic=True), None, "dynamic"),
        ("ct-fp8-tensor", weights(num_bits=4), None, "num_bits"),
        ("ct-fp8-tensor", setting(format="nvfp4-pack-quantized"), None, "format"),
        ("ct-fp8-tensor", setting(sparsity_config={"format": "sparse-24-bitmask"}), None, "sparsity_config"),
        ("ct-fp8-tensor", setting(transform_config={"config_groups": {"R1": {}}}), None, "transform_config"),
        ("ct-fp8-tensor", setting(ignore=["re:.*down.*"]), None, "says that it is not"),
        ("ct-fp8-tensor", setting(ignore=["re:(a+)+\\1"]), None, "a pattern"),
        ("ct-fp8-tensor", setting(config_groups={}), None, "config_groups"),
        ("ct-fp8-tensor", None, without("weight_scale"), "one tensor of scales"),
        ("ct-fp8-tensor", None, typed("weight_scale", torch.int8), "one tensor of scales"),
        ("ct-int4-group", weights(symmetric=False), None, "zero points"),
        ("ct-int4-group", None, cut("weight_packed", 1), "does not hold"),
        ("ct-int4-group", None, add(f"{DOWN}.weight_shape", torch.tensor([64, 95])), "asks for|has scales"),
        ("ct-int4-group", None, add(f"{DOWN}.weight_shape", torch.tensor([-64, 96])), "does not hold"),
        ("ct-int4-group", None, add(f"{DOWN}.weight_shape", torch.tensor([64, 96, 1])), "describes no shape"),
        ("ct-int4-zero", None, cut("weight_zero_point"), "zero points"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, name, config, change, match):
    folder = copied(tmp_path, name, config, change)
    with pytest.raises(ModelRejected, match=match) as caught:
        verify_checkpoint(folder)
    assert caught.value.hint


def test_several_forms_in_one_model_are_refused(tmp_path):
    def twice(given):
        group = given["config_groups"]["group_0"]
        other = group | {"weights": group["weights"] | {"num_bits": 4}}
        return given | {"config_groups": {"group_0": group, "group_1": other}}

    with pytest.raises(ModelRejected, match="several forms"):
        verify_checkpoint(copied(tmp_path, "ct-int8-channel", twice))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("gptq-8bit", {"meta": {"quantizer": ["gptqmodel:7.7.0"]}, "backend": "auto", "dataset": "c4", "dynamic": {}}),
        ("bnb-8bit", {"llm_int8_skip_modules": ["lm_head"], "llm_int8_threshold": 6.0}),
        ("awq-gemm", {"modules_to_not_convert": ["lm_head"], "do_fuse": False, "exllama_config": {"version": 2}}),
        ("ct-fp8-tensor", {"ignore": ["lm_head", "re:.*vision.*"], "kv_cache_scheme": {"num_bits": 8}}),
    ],
)
def test_records_of_how_scales_were_found_decide_nothing(tmp_path, name, values):
    folder = copied(tmp_path, name, setting(**values))
    view = write_view(verify_checkpoint(folder), tmp_path / "view").folder
    plain = write_view(verify_checkpoint(FOLDERS / name), tmp_path / "plain").folder
    assert json.loads((view / QUANTISED_SOURCES).read_text()) == json.loads((plain / QUANTISED_SOURCES).read_text())


def test_weights_of_a_byte_without_a_scheme_are_refused(tmp_path):
    folder = copied(tmp_path, "ct-fp8-tensor")
    document = json.loads((folder / "config.json").read_text())
    del document["quantization_config"]
    (folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(ModelRejected, match=r"F8_E4M3|is not a tensor"):
        verify_checkpoint(folder)


def test_a_copy_of_a_packed_weight_is_no_copy(tmp_path):
    """Bytes that stand for a weight are not the weight, however many of them an adapter repeats."""
    base = write_gguf(write_checkpoint(tmp_path / "source", "llama"), tmp_path / "base" / "model.gguf")
    shutil.copyfile(tmp_path / "source" / "tokenizer.json", base.parent / "tokenizer.json")
    checkpoint = verify_checkpoint(base.parent)
    head = checkpoint.tensors["lm_head.weight"]
    assert head.packed
    data = base.read_bytes()[head.start : head.stop]
    copy = torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(head.shape)
    rows, wide = head.shape
    prefix = "base_model.model.lm_head"
    adapter = Folder(
        "lora", changes={"adapter_config.json": {"target_modules": ["lm_head"]}}, without=("adapter_model.safetensors",)
    ).write(tmp_path / "adapter")
    tensors = {f"{prefix}.lora_A.weight": torch.zeros(4, wide), f"{prefix}.lora_B.weight": torch.zeros(rows, 4),
               f"{prefix}.base_layer.weight": copy}  # fmt: skip
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelsIncompatible, match="its copy of 'lm_head'"):
        check_pair(checkpoint, verify_checkpoint(adapter))


def test_the_command_dequantises_what_is_not_read(tmp_path):
    """Run as it is printed, on a form that transformers itself can load here."""
    folder = write_checkpoint(tmp_path / "model", "llama")
    held = load_file(folder / "model.safetensors")
    packed, expected = {}, {}
    for name, value in held.items():
        if value.dim() != 2 or "embed" in name or "head" in name:
            packed[name] = value
            continue
        scale = value.abs().max() / 448
        packed |= {name: (value / scale).to(torch.float8_e4m3fn), f"{name}_scale_inv": scale.reshape(1, 1)}
        expected[name] = packed[name].float() * scale
    save_file(packed, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    scheme = {"quant_method": "fp8", "weight_block_size": [4096, 4096], "newer_option": True}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": scheme}))
    (problem,) = check_folder(folder)["problems"]
    assert problem["key"] == "quantization_config.newer_option"
    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(problem["command"], shell=True, check=True, env=os.environ | paths, capture_output=True)  # noqa: S602
    done = tmp_path / "model-dequantised"
    assert verify_checkpoint(done).warnings == ()
    found = load_file(done / "model.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(found[name].float(), value, atol=0.01, rtol=0.01)
