"""Folders as training tools write them: JSON, headers of real shapes over holes, and what lies beside them."""

import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.tiny import tokenizer_json

PICKLE: Final = b"\x80\x02}q\x00."
HIDDEN, INNER, BLOCKS, VOCAB = 64, 96, 2, 512
_BYTES: Final = {"F8_E4M3": 1, "F32": 4, "F16": 2, "BF16": 2, "I32": 4, "U8": 1}
_LINEAR: Final = {
    "q_proj": ("self_attn", HIDDEN, HIDDEN),
    "k_proj": ("self_attn", 32, HIDDEN),
    "v_proj": ("self_attn", 32, HIDDEN),
    "o_proj": ("self_attn", HIDDEN, HIDDEN),
    "gate_proj": ("mlp", INNER, HIDDEN),
    "up_proj": ("mlp", INNER, HIDDEN),
    "down_proj": ("mlp", HIDDEN, INNER),
}

Shapes = dict[str, tuple[Any, ...]]
"""Dimensions, after the name of the type where it is another than the file's."""


@dataclass(frozen=True)
class Fifo:
    """A FIFO."""


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Folder:
    """What a folder holds.

    Attributes:
        like: the plain checkpoint that it starts from.
        changes: keys of its JSON files that are set, by file; ``...`` takes a key away.
        tensors: tensors that are added to its weights.
        beside: other files: bytes, text, JSON, tensors' shapes under a ``.safetensors`` name, a link or a FIFO.
        without: files that it lacks.
        rank: of its factors, where it is an adapter.
    """

    like: str
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tensors: Shapes = field(default_factory=dict)
    beside: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    rank: int = 4

    def write(self, folder: Path) -> Path:
        """Lay it out."""
        folder.mkdir(parents=True)
        documents, weights, shapes = _plain(self.like, self.rank)
        for name in {*documents, *self.changes} - {*self.without}:
            changed = {**documents.get(name, {}), **self.changes.get(name, {})}
            text = json.dumps({key: value for key, value in changed.items() if value is not ...})
            (folder / name).write_text(text)
        if weights not in self.without:
            write_weights(folder / weights, shapes | self.tensors)
        for name, content in self.beside.items():
            _write(folder / name, content)
        return folder


def write_weights(path: Path, shapes: Mapping[str, tuple[Any, ...]], dtype: str = "BF16") -> None:
    """A safetensors file whose weights are a hole."""
    stop = 0
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name, shape in shapes.items():
        own, shape = (shape[0], shape[1:]) if shape and isinstance(shape[0], str) else (dtype, shape)
        start, size = stop, _BYTES[own]
        for dimension in shape:
            size *= dimension
        stop = start + size
        header[name] = {"dtype": own, "shape": list(shape), "data_offsets": [start, stop]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + stop)


def llama_shapes(blocks: int = BLOCKS, vocab: int = VOCAB, *, head: bool = True) -> Shapes:
    """Tensors of a Llama."""
    shapes: Shapes = {"model.embed_tokens.weight": (vocab, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for block in range(blocks):
        prefix = f"model.layers.{block}"
        for name, (part, out, into) in _LINEAR.items():
            shapes[f"{prefix}.{part}.{name}.weight"] = (out, into)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}.{norm}.weight"] = (HIDDEN,)
    return {**shapes, "lm_head.weight": (vocab, HIDDEN)} if head else shapes


def factors(
    names: Iterable[str] = ("q_proj", "v_proj"), rank: int = 4, blocks: Iterable[int] = range(BLOCKS)
) -> Shapes:
    """Tensors of a LoRA adapter."""
    shapes: Shapes = {}
    for block in blocks:
        for name in names:
            part, out, into = _LINEAR[name]
            module = f"base_model.model.model.layers.{block}.{part}.{name}"
            shapes |= {f"{module}.lora_A.weight": (rank, into), f"{module}.lora_B.weight": (out, rank)}
    return shapes


def _phi3_shapes() -> Shapes:
    shapes = {name: shape for name, shape in llama_shapes().items() if "_proj" not in name}
    for block in range(BLOCKS):
        prefix = f"model.layers.{block}"
        shapes |= {
            f"{prefix}.self_attn.qkv_proj.weight": (3 * HIDDEN, HIDDEN),
            f"{prefix}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            f"{prefix}.mlp.gate_up_proj.weight": (2 * INNER, HIDDEN),
            f"{prefix}.mlp.down_proj.weight": (HIDDEN, INNER),
        }
    return shapes


def _gpt2_shapes() -> Shapes:
    shapes: Shapes = {"wte.weight": (VOCAB, HIDDEN), "wpe.weight": (256, HIDDEN)}
    shapes |= {"ln_f.weight": (HIDDEN,), "ln_f.bias": (HIDDEN,)}
    for block in range(BLOCKS):
        for name, into, out in (
            ("attn.c_attn", HIDDEN, 3 * HIDDEN),
            ("attn.c_proj", HIDDEN, HIDDEN),
            ("mlp.c_fc", HIDDEN, 4 * HIDDEN),
            ("mlp.c_proj", 4 * HIDDEN, HIDDEN),
        ):
            shapes |= {f"h.{block}.{name}.weight": (into, out), f"h.{block}.{name}.bias": (out,)}
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h.{block}.{norm}.weight": (HIDDEN,), f"h.{block}.{norm}.bias": (HIDDEN,)}
    return shapes


_LLAMA: Final[dict[str, Any]] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
_PHI3: Final[dict[str, Any]] = {
    **_LLAMA,
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "num_key_value_heads": 4,
    "pad_token_id": 0,
    "original_max_position_embeddings": 256,
}
_GPT2: Final[dict[str, Any]] = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_embd": HIDDEN,
    "n_layer": BLOCKS,
    "n_head": 4,
    "n_positions": 256,
    "vocab_size": VOCAB,
}
_LORA: Final[dict[str, Any]] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
    "base_model_name_or_path": "somebody/tiny",
}


def _plain(like: str, rank: int) -> tuple[dict[str, dict[str, Any]], str, Shapes]:
    if like == "lora":
        return {"adapter_config.json": _LORA}, "adapter_model.safetensors", factors(rank=rank)
    config, shapes = {
        "llama": (_LLAMA, llama_shapes),
        "phi3": (_PHI3, _phi3_shapes),
        "gpt2": (_GPT2, _gpt2_shapes),
    }[like]
    return {"config.json": config, "tokenizer.json": tokenizer_json()}, "model.safetensors", shapes()


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if isinstance(content, Link):
        path.symlink_to(content.target)
    elif isinstance(content, Fifo):
        os.mkfifo(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".safetensors":
        write_weights(path, content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
