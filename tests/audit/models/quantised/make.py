"""``python tests/audit/models/quantised/make.py``: writes the folders beside it with the libraries that people use.

Each folder is one tiny random Llama as a library saved it, and ``expected.safetensors``: what that library itself makes
of the packed weights of two modules. The libraries are no dependencies of this project; the README beside this file
says which versions wrote what is committed.
"""

import importlib.util
import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

HERE = Path(__file__).parent
EXPECTED = ("model.layers.0.self_attn.k_proj", "model.layers.0.mlp.down_proj")


def plain(folder: Path) -> nn.Module:
    """The model before it is quantised, saved as bfloat16."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(folder)
    return transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)


def finish(name: str, expected: Mapping[str, torch.Tensor]) -> None:
    """Keep what was saved, and what the library reads from it."""
    (HERE / name / "generation_config.json").unlink(missing_ok=True)
    save_file(
        {key: value.float().contiguous() for key, value in expected.items()}, HERE / name / "expected.safetensors"
    )


def replaced(name: str, source: Path, packed: Mapping[str, torch.Tensor], scheme: Mapping[str, Any]) -> None:
    """Save a folder whose linear layers are given packed, as the quantising tools write theirs."""
    folder = HERE / name
    shutil.copytree(source, folder, dirs_exist_ok=True)
    rest = {key: value for key, value in load_file(source / "model.safetensors").items() if "_proj" not in key}
    tensors = {key: value.contiguous() for key, value in {**rest, **packed}.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": scheme}, indent=1))


def bitsandbytes(source: Path, name: str, **options: Any) -> None:
    """8 and 4 bits, as ``save_pretrained`` writes them."""
    import bitsandbytes as bnb

    settings = transformers.BitsAndBytesConfig(**options)
    model = transformers.LlamaForCausalLM.from_pretrained(
        source, quantization_config=settings, device_map="cpu", dtype=torch.bfloat16
    )
    model.save_pretrained(HERE / name)
    again = transformers.LlamaForCausalLM.from_pretrained(HERE / name, device_map="cpu", dtype=torch.bfloat16)
    expected = {}
    for module in EXPECTED:
        weight = again.get_submodule(module).weight
        if options.get("load_in_4bit"):
            expected[module] = bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
        else:
            expected[module] = bnb.functional.int8_vectorwise_dequant(weight.data, weight.SCB)
    finish(name, expected)


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear) and "_proj" in name}


def grid(weight: torch.Tensor, bits: int, group: int, *, symmetric: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and zero points of each row's groups, ``[out, groups]``."""
    parts = weight.float().reshape(weight.shape[0], -1, group)
    most = 2**bits - 1
    if symmetric:
        return parts.abs().amax(-1) * 2 / most, torch.full(parts.shape[:2], 2 ** (bits - 1))
    low, high = parts.amin(-1), parts.amax(-1)
    scales = (high - low) / most
    # A zero point of 0 is one that the format's libraries read in different ways.
    return scales, torch.round(-low / scales).clamp(1, most).int()


def auto_gptq(source: Path, name: str, site: Path, bits: int, group: int, *, symmetric: bool, order: bool) -> None:
    """GPTQ's packing by AutoGPTQ's layer; the expected weights are what that layer does to the unit vectors."""
    found = importlib.util.spec_from_file_location("packing", site / "auto_gptq/nn_modules/qlinear/qlinear_cuda.py")
    packing = importlib.util.module_from_spec(found)
    found.loader.exec_module(packing)
    packed, expected = {}, {}
    for module, linear in linears(plain(source)).items():
        wide = linear.in_features
        size = wide if group == -1 else group
        places = torch.arange(wide) // size
        if order:
            places = places[torch.randperm(wide, generator=torch.Generator().manual_seed(1))]
        sorted_weight = linear.weight.data[:, torch.argsort(places, stable=True)]
        scales, zeros = grid(sorted_weight, bits, size, symmetric=symmetric)
        layer = packing.QuantLinear(bits, group, wide, linear.out_features, False, weight_dtype=torch.float16)
        linear.weight.data = linear.weight.data.half()
        layer.pack(linear, scales.half(), zeros, places.int())
        packed |= {f"{module}.{key}": value for key, value in layer.state_dict().items()}
        if module in EXPECTED:
            expected[module] = layer.float()(torch.eye(wide)).T
    scheme = {
        "bits": bits, "group_size": group, "damp_percent": 0.01, "desc_act": order, "static_groups": False,
        "sym": symmetric, "true_sequential": True, "model_name_or_path": None, "model_file_base_name": "model",
        "quant_method": "gptq", "checkpoint_format": "gptq",
    }  # fmt: skip
    replaced(name, source, packed, scheme)
    finish(name, expected)


def auto_awq(source: Path, name: str, site: Path, group: int) -> None:
    """AWQ's packing by AutoAWQ's layer, and what its own unpacking gives."""
    sys.path.insert(0, str(site))
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm

    packed, expected = {}, {}
    for module, linear in linears(plain(source)).items():
        scales, zeros = grid(linear.weight.data, 4, group, symmetric=False)
        layer = WQLinear_GEMM.from_linear(linear, 4, group, scales=scales.T.contiguous(), zeros=zeros.T.contiguous())
        packed |= {f"{module}.{key}": value for key, value in layer.state_dict().items()}
        if module in EXPECTED:
            expected[module] = dequantize_gemm(layer.qweight, layer.qzeros, layer.scales.float(), 4, group).T
    scheme = {
        "bits": 4, "group_size": group, "modules_to_not_convert": None, "quant_method": "awq", "version": "gemm",
        "zero_point": True,
    }  # fmt: skip
    replaced(name, source, packed, scheme)
    finish(name, expected)


def compressed_tensors(source: Path, name: str, activations: Any = None, **weights: Any) -> None:
    """compressed-tensors, whose own compressor packs the weights and unpacks them again."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationConfig,
        QuantizationScheme,
        apply_quantization_config,
    )
    from compressed_tensors.quantization.utils import calculate_qparams

    model = plain(source)
    arguments = QuantizationArgs(**weights)
    rounded = None if activations is None else QuantizationArgs(**activations)
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments, input_activations=rounded)
    config = QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"])
    apply_quantization_config(model, config)
    for linear in linears(model).values():
        rows, wide = linear.weight.shape
        block = {
            "tensor": (rows, wide), "channel": (1, wide), "group": (1, arguments.group_size or wide),
            "block": tuple(arguments.block_structure or (rows, wide)),
        }[arguments.strategy]  # fmt: skip
        tiles = linear.weight.data.float().reshape(rows // block[0], block[0], wide // block[1], block[1])
        scale, zero = calculate_qparams(tiles.amin((1, 3)), tiles.amax((1, 3)), arguments)
        linear.weight_scale.data.copy_(scale.reshape(linear.weight_scale.shape))
        if hasattr(linear, "weight_zero_point"):
            linear.weight_zero_point.data.copy_(zero.reshape(linear.weight_zero_point.shape))
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(HERE / name)
    compressor.update_config(HERE / name)
    compressor.decompress_model(model)
    finish(name, {module: model.get_submodule(module).weight.data for module in EXPECTED})


def main(gptq: Path, awq: Path, scratch: Path, only: list[str]) -> None:
    """Write all folders, or some; AutoGPTQ and AutoAWQ do not install any more, and lie unpacked in folders."""
    source = scratch / "plain"
    plain(source)
    jobs: dict[str, Callable[[str], None]] = {
        "bnb-8bit": lambda name: bitsandbytes(source, name, load_in_8bit=True),
        "bnb-nf4-double": lambda name: bitsandbytes(
            source, name, load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
        "bnb-fp4": lambda name: bitsandbytes(source, name, load_in_4bit=True, bnb_4bit_quant_type="fp4"),
        "gptq-2bit": lambda name: auto_gptq(source, name, gptq, 2, 16, symmetric=False, order=False),
        "gptq-3bit": lambda name: auto_gptq(source, name, gptq, 3, 32, symmetric=False, order=False),
        "gptq-4bit-order": lambda name: auto_gptq(source, name, gptq, 4, 32, symmetric=True, order=True),
        "gptq-8bit": lambda name: auto_gptq(source, name, gptq, 8, -1, symmetric=True, order=False),
        "awq-gemm": lambda name: auto_awq(source, name, awq, 32),
        "ct-fp8-tensor": lambda name: compressed_tensors(source, name, num_bits=8, type="float", strategy="tensor"),
        "ct-fp8-channel": lambda name: compressed_tensors(source, name, num_bits=8, type="float", strategy="channel"),
        "ct-fp8-block": lambda name: compressed_tensors(
            source, name, num_bits=8, type="float", strategy="block", block_structure=[16, 32]
        ),
        "ct-int8-channel": lambda name: compressed_tensors(source, name, num_bits=8, type="int", strategy="channel"),
        "ct-int8-activations": lambda name: compressed_tensors(
            source, name, {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True},
            num_bits=8, type="int", strategy="channel",
        ),
        "ct-int4-group": lambda name: compressed_tensors(
            source, name, num_bits=4, type="int", strategy="group", group_size=32, symmetric=True
        ),
        "ct-int4-zero": lambda name: compressed_tensors(
            source, name, num_bits=4, type="int", strategy="group", group_size=32, symmetric=False
        ),
    }  # fmt: skip
    for name in only or jobs:
        shutil.rmtree(HERE / name, ignore_errors=True)
        jobs[name](name)
        sizes = [path.stat().st_size for path in (HERE / name).iterdir()]
        print(name, math.fsum(sizes) / 1024, "KiB")  # noqa: T201


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), sys.argv[4:])
