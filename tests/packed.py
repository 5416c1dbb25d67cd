"""Checkpoints in the forms that models are deployed in, written from transformers' own."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

# transformers' names of kinds that llama.cpp calls otherwise.
_KINDS = {"gemma3_text": "gemma3", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "mistral": "llama"}
# What llama.cpp calls a key of config.json.
_KEYS = {
    "num_hidden_layers": "block_count", "max_position_embeddings": "context_length", "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length", "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv", "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}  # fmt: skip
_MORE = {
    "num_experts": "expert_count", "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
    "attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping",
    "attention_multiplier": "attention.scale", "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale", "logits_scaling": "logit_scale",
}  # fmt: skip


def write_gguf(
    source: Path, target: Path, kind: Type = Type.F32, *, template: str | None = None, extra: Any = None, **more: Any
) -> Path:
    """Write a folder's model as llama.cpp's converter does: names, rows of heads, norms, experts, metadata.

    Args:
        source: a checkpoint with its tokenizer.
        target: the file.
        kind: the type of matrices; vectors stay floats.
        template: the chat template.
        extra: more tensors, by the file's names.
        more: metadata that takes the place of what the model says; ``__`` stands for a dot, None takes it out.
    """
    config, tokenizer = AutoConfig.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    name = _KINDS.get(config.model_type, config.model_type)
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(target), name)
    values = _metadata(config, name) | {key.replace("__", "."): value for key, value in more.items()}
    for key, value in values.items():
        if value is not None:
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
    for own, array in (*_tensors(source, config, name), *(extra or {}).items()):
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


def _metadata(config: Any, name: str) -> dict[str, Any]:
    values = {theirs: getattr(config, ours) for ours, theirs in _KEYS.items()}
    values |= {theirs: getattr(config, ours) for ours, theirs in _MORE.items() if getattr(config, ours, None)}
    values |= {key: float(value) for key, value in values.items() if "scal" in key or "softcap" in key}
    values["attention.layer_norm_rms_epsilon"] = float(config.rms_norm_eps)
    rope = getattr(config, "rope_parameters", None) or {}
    values["rope.freq_base"] = float(rope.get("full_attention", rope).get("rope_theta", 10_000.0))
    if name in ("qwen3", "qwen3moe", "gemma2", "gemma3"):
        values |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
    if name in ("gemma2", "gemma3", "phi3") and config.sliding_window:
        values["attention.sliding_window"] = config.sliding_window
    return values


def _tensors(source: Path, config: Any, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor, by the names of gguf's own table."""
    kinds = {known: number for number, known in gguf.MODEL_ARCH_NAMES.items()}
    table = gguf.get_tensor_name_map(kinds[name], config.num_hidden_layers)
    experts: dict[str, dict[int, np.ndarray]] = {}
    for key, tensor in load_file(source / "model.safetensors").items():
        array = tensor.float().numpy()
        before, found, after = key.partition(".experts.")
        if found:
            number, _, part = after.partition(".")
            experts.setdefault(f"{before}.experts.{part}", {})[int(number)] = array
            continue
        if key.endswith("norm.weight") and name.startswith("gemma"):
            array = array + 1
        if key.endswith("shared_expert_gate.weight"):
            array = array[0]
        counts = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        count = counts.get(key.rsplit(".", 2)[-2], 0) if name in ("llama", "granite") else 0
        if count:
            array = array.reshape(count, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
        yield str(table.get_name(key, try_suffixes=(".weight", ".bias"))), array
    for key, parts in experts.items():
        yield str(table.get_name(key, try_suffixes=(".weight",))), np.stack([parts[one] for one in sorted(parts)])


def llama3_factors(head: int, base: float, factor: float, low: float, high: float, length: int) -> np.ndarray:
    """What llama.cpp's converter writes into ``rope_freqs.weight`` for Llama 3's way of scaling."""
    found = []
    for place in range(0, head, 2):
        wave = 2 * math.pi * base ** (place / head)
        if wave < length / high:
            found.append(1.0)
        elif wave > length / low:
            found.append(factor)
        else:
            smooth = (length / wave - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(found, dtype=np.float32)


def split_gguf(path: Path, parts: int) -> list[Path]:
    """Take a file apart as llama.cpp's ``gguf-split`` does: metadata in the first part, tensors in all."""
    reader = gguf.GGUFReader(path)
    kind = reader.get_field("general.architecture").contents()
    names = [path.with_name(f"{path.stem}-{number + 1:05}-of-{parts:05}.gguf") for number in range(parts)]
    for number, name in enumerate(names):
        writer = gguf.GGUFWriter(str(name), kind)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", parts)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for field in reader.fields.values() if number == 0 else ():
            if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                sub = field.types[1] if len(field.types) > 1 else None
                writer.add_key_value(field.name, field.contents(), field.types[0], sub)
        for tensor in reader.tensors[number::parts]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    path.unlink()
    return names
