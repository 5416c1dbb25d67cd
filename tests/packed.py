"""Checkpoints in the forms that models are deployed in, written from transformers' own."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

_TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight"}  # fmt: skip
_BLOCK = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def write_gguf(source: Path, target: Path, kind: Type = Type.F32, *, template: str | None = None, **more: Any) -> Path:
    """Write a folder's model as llama.cpp's converter does: names, the order of Llama's rows, metadata.

    Args:
        source: a checkpoint with its tokenizer.
        target: the file.
        kind: the type of matrices; vectors stay floats.
        template: the chat template.
        more: metadata that takes the place of what the model says; ``__`` stands for a dot.
    """
    config, tokenizer = AutoConfig.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    name = config.model_type
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(target), name)
    rope = getattr(config, "rope_parameters", None) or {}
    values: dict[str, Any] = {
        "block_count": config.num_hidden_layers, "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.freq_base": float(rope.get("rope_theta", 10_000.0)),
    }  # fmt: skip
    if name == "qwen3":
        values["attention.key_length"] = config.head_dim
    values |= {key.replace("__", "."): value for key, value in more.items()}
    for key, value in values.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        (writer.add_string if isinstance(value, str) else add)(f"{name}.{key}", value)
    vocabulary = {number: token for token, number in tokenizer.get_vocab().items()}
    tokens = [vocabulary.get(number, f"[PAD{number}]") for number in range(config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    if tokenizer.eos_token_id is not None:
        writer.add_eos_token_id(tokenizer.eos_token_id)
    if template is not None:
        writer.add_chat_template(template)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for key, tensor in load_file(source / "model.safetensors").items():
        array = tensor.float().numpy()
        own = _TOP.get(key)
        if own is None:
            block, part = key.removeprefix("model.layers.").split(".", 1)
            part, ending = part.rsplit(".", 1)
            own = f"blk.{block}.{_BLOCK[part]}.{ending}"
            if name == "llama" and _BLOCK[part] in heads:
                count = heads[_BLOCK[part]]
                array = array.reshape(count, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
        if array.ndim > 1 and kind != Type.F32 and array.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0:
            packed = gguf.quants.quantize(np.ascontiguousarray(array), kind)
            writer.add_tensor(own, packed, raw_shape=packed.shape, raw_dtype=kind)
        else:
            writer.add_tensor(own, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
