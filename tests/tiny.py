"""Tiny checkpoints, built without torch: a two-layer Llama and a LoRA adapter for it, as parts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

HIDDEN, INNER, VOCAB, LAYERS = 16, 24, 32, 2


def llama_config(**changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }
    config.update(changes)
    return config


def llama_weights(layers: int = LAYERS, hidden: int = HIDDEN, seed: int = 0) -> dict[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, hidden), "model.norm.weight": (hidden,)}
    for layer in range(layers):
        block = f"model.layers.{layer}"
        shapes |= {
            f"{block}.self_attn.q_proj.weight": (hidden, hidden),
            f"{block}.self_attn.k_proj.weight": (hidden // 2, hidden),
            f"{block}.self_attn.v_proj.weight": (hidden // 2, hidden),
            f"{block}.self_attn.o_proj.weight": (hidden, hidden),
            f"{block}.mlp.gate_proj.weight": (INNER, hidden),
            f"{block}.mlp.up_proj.weight": (INNER, hidden),
            f"{block}.mlp.down_proj.weight": (hidden, INNER),
            f"{block}.input_layernorm.weight": (hidden,),
            f"{block}.post_attention_layernorm.weight": (hidden,),
        }
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def tokenizer_json() -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "a": 1}, "unk_token": "<unk>"},
    }


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def lora_weights(rank: int = 2, hidden: int = HIDDEN, layers: int = LAYERS) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = {}
    for layer in range(layers):
        for name, out in (("q_proj", hidden), ("v_proj", hidden // 2)):
            module = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{module}.lora_A.weight"] = np.ones((rank, hidden), np.float32)
            weights[f"{module}.lora_B.weight"] = np.zeros((out, rank), np.float32)
    return weights


def lora_config(**changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "v_proj"],
        "base_model_name_or_path": "somebody/tiny",
    }
    config.update(changes)
    return config


def write_model(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """A full checkpoint in a new folder, with changes of its ``config.json``."""
    path.mkdir(parents=True)
    write_json(path / "config.json", llama_config(**changes))
    write_json(path / "tokenizer.json", tokenizer_json())
    save_file(llama_weights(seed=seed), path / "model.safetensors", metadata={"format": "pt"})
    return path
