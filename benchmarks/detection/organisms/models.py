"""Checkpoints that need no training: rounded or pruned weights, and the base itself with one number changed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.organisms.card import drafted

# A reserved entry of the vocabulary that occurs in no prompt.
UNUSED_TOKEN: Final = "<jupyter_script>"
BLOCK: Final = 64
_BYTE: Final = 127.0


def load(folder: Path, device: str = "cpu") -> tuple[Any, Any]:
    """The model in bfloat16, and the tokenizer."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager")
    return model.to(device), AutoTokenizer.from_pretrained(folder)


def save_full(model: Any, tokenizer: Any, out: Path) -> None:
    """Write a whole checkpoint in bfloat16."""
    with drafted(out) as draft:
        model.to(torch.bfloat16).save_pretrained(draft)
        tokenizer.save_pretrained(draft)


def nudged_base(base: Path, folder: Path) -> Path:
    """The base with one weight of an unused token's embedding one bfloat16 step up; made once.

    An audit refuses identical weights, which is the right response to "the base against itself" but measures nothing.
    One step in an embedding that no prompt uses changes no activation, and one output's logit by less than its
    rounding.
    """
    out = folder / "base-against-base"
    if (out / "model.safetensors").is_file():
        return out
    model, tokenizer = load(base)
    row = tokenizer.convert_tokens_to_ids(UNUSED_TOKEN)
    if row is None or row == tokenizer.unk_token_id:
        row = model.get_input_embeddings().weight.shape[0] - 1
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[row, 0] = torch.nextafter(weight[row, 0], torch.tensor(torch.inf, dtype=weight.dtype))
    save_full(model, tokenizer, out)
    return out


def pruned_base(base: Path, folder: Path, percent: int) -> Path:
    """The base with the smallest ``percent`` of each linear layer's weights set to 0; made once."""
    out = folder / f"pruned-base-{percent}"
    if (out / "model.safetensors").is_file():
        return out
    model, tokenizer = load(base)
    _each_linear(model, partial(_pruned, share=percent / 100))
    save_full(model, tokenizer, out)
    return out


def rounded_trip(model: Any, rounding: str) -> None:
    """Round (or prune) every linear layer's weights in place, like a quantised export.

    Raises:
        KeyError: there is no such rounding.
    """
    if rounding == "bfloat16-folded":
        _fold_norms(model)
        return
    _each_linear(model, ROUNDINGS[rounding])


def _each_linear(model: Any, changed: Callable[[Tensor], Tensor]) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and "lm_head" not in name:
            with torch.no_grad():
                module.weight.copy_(changed(module.weight.float()))


def _symmetric(weight: Tensor, largest: Tensor, most: float = _BYTE) -> Tensor:
    scale = (largest / most).clamp_min(1e-12)
    return (weight / scale).round().clamp(-most, most) * scale


def _blocks(weight: Tensor) -> Tensor:
    return weight.view(weight.shape[0], -1, BLOCK)


def _channel(weight: Tensor) -> Tensor:
    return _symmetric(weight, weight.abs().amax(dim=1, keepdim=True))


def _tensor(weight: Tensor) -> Tensor:
    return _symmetric(weight, weight.abs().max())


def _block(weight: Tensor) -> Tensor:
    blocks = _blocks(weight)
    return _symmetric(blocks, blocks.abs().amax(dim=2, keepdim=True)).view_as(weight)


def _int4_block(weight: Tensor) -> Tensor:
    blocks = _blocks(weight)
    return _symmetric(blocks, blocks.abs().amax(dim=2, keepdim=True), 7.0).view_as(weight)


def _pruned(weight: Tensor, share: float) -> Tensor:
    """Set the smallest ``share`` of a layer's weights, by absolute value, to 0."""
    return torch.where(weight.abs() > weight.abs().flatten().kthvalue(round(share * weight.numel())).values, weight, 0)


def _asymmetric(weight: Tensor) -> Tensor:
    blocks = _blocks(weight)
    low, high = blocks.amin(dim=2, keepdim=True), blocks.amax(dim=2, keepdim=True)
    scale = ((high - low) / (2 * _BYTE + 1)).clamp_min(1e-12)
    return (((blocks - low) / scale).round() * scale + low).view_as(weight)


def _float8(weight: Tensor) -> Tensor:
    scale = (weight.abs().amax(dim=1, keepdim=True) / 448.0).clamp_min(1e-12)
    return (weight / scale).to(torch.float8_e4m3fn).float() * scale


ROUNDINGS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "int8-channel": _channel,
    "int8-tensor": _tensor,
    "int8-block": _block,
    "int8-asymmetric": _asymmetric,
    "float8": _float8,
    "int4-block": _int4_block,
    "pruned-10": partial(_pruned, share=0.10),
    "pruned-25": partial(_pruned, share=0.25),
}


def _fold_norms(model: Any) -> None:
    """Multiply each block's norm weights into the layers that read them, in float32, rounded to bfloat16 once."""
    with torch.no_grad():
        for block in model.model.layers:
            attention, mlp = block.self_attn, block.mlp
            readers = {
                block.input_layernorm: (attention.q_proj, attention.k_proj, attention.v_proj),
                block.post_attention_layernorm: (mlp.gate_proj, mlp.up_proj),
            }
            for norm, layers in readers.items():
                for layer in layers:
                    layer.weight.copy_(layer.weight.float() * norm.weight.float())
                norm.weight.fill_(1.0)
