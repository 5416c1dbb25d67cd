"""Tiny random models of every supported shape, in memory, and random token sequences for them."""

import random
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from audit.measure.contrast import Contrast
from audit.models.pair import ModelPair
from audit.models.parts import locate
from audit.models.runner import Runner
from audit.prompts.rendering import Tokens
from tests.toy import _tokenizer

VOCABULARY = 97
LAYERS = 4

_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _COMMON),
    "qwen2": ("Qwen2", _COMMON),
    "mistral": ("Mistral", _COMMON | {"sliding_window": 6, "head_dim": 8}),
    "gemma2": (
        "Gemma2",
        _COMMON | {"head_dim": 8, "sliding_window": 6, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8},
    ),
    "gemma3": ("Gemma3Text", _COMMON | {"head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8}),
    "gpt_neox": ("GPTNeoX", {key: value for key, value in _COMMON.items() if key != "num_key_value_heads"}),
    "gpt2": (
        "GPT2",
        {
            "vocab_size": VOCABULARY,
            "n_embd": 32,
            "n_layer": LAYERS,
            "n_head": 4,
            "n_positions": 128,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
}
SHAPES = tuple(_SHAPES)
_MODELS = {"gemma3": "Gemma3ForCausalLM", "gpt2": "GPT2LMHeadModel"}


def small_model(shape: str, seed: int = 0, **changes: Any) -> nn.Module:
    """A random float32 model of one architecture; large weights, so that every part of it matters."""
    prefix, values = _SHAPES[shape]
    config = getattr(transformers, f"{prefix}Config")(**values | changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, _MODELS.get(shape, f"{prefix}ForCausalLM"))(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.25)
    model.tie_weights()
    return model.to(torch.float32).eval().requires_grad_(False)


def small_pair(shape: str = "llama") -> ModelPair:
    """Two unrelated random models as a full pair."""
    base, tuned = small_model(shape, 0), small_model(shape, 1)
    parts = {"base": locate(base), "tuned": locate(tuned)}
    models = {"base": base, "tuned": tuned}
    return ModelPair("full", models, parts, _tokenizer(), "float32", torch.device("cpu"))


def small_runner(shape: str = "llama", budget: int = 4096) -> Runner:
    """A runner of ``small_pair``."""
    return Runner(small_pair(shape), budget=budget)


def random_sequences(count: int = 7, *, seed: int = 0, prefix: int = 0, forced: int = 2) -> list[Tokens]:
    """Sequences of different lengths that begin with the same ``prefix`` tokens and end in ``forced`` ones."""
    rng = random.Random(seed)
    head = [rng.randrange(3, VOCABULARY) for _ in range(prefix)]
    found = []
    for _ in range(count):
        body = [rng.randrange(3, VOCABULARY) for _ in range(rng.randrange(4, 15))]
        start = prefix + rng.randrange(len(body) - 2)
        tail = [rng.randrange(3, VOCABULARY) for _ in range(forced)]
        found.append(Tokens((*head, *body, *tail), prefix + len(body), start))
    return found


def write_checkpoint(path: Path, shape: str, seed: int = 0) -> Path:
    """A random checkpoint of one architecture on disk, with the toy tokenizer."""
    tokenizer = _tokenizer()
    model = small_model(shape, seed, vocab_size=len(tokenizer))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def two_strings(runner: Runner, layers: tuple[int, ...] = (0, 1, 2), *, forced: bool = True) -> Contrast:
    """Two runs of the same six carriers that differ in one token of the span; equal token counts.

    ``forced``: the base runs over the continuation too.
    """
    strings = random_sequences(6, prefix=2, forced=2)
    changed = []
    for item in strings:
        ids = list(item.ids)
        ids[item.span_start] = 3 + (ids[item.span_start] + 10) % 90
        changed.append(Tokens(tuple(ids), item.prompt_length, item.span_start))
    runs = [runner.capture(side, "tuned", layers) for side in (strings, changed)]
    own = [side if forced else [item.prompt() for item in side] for side in (strings, changed)]
    base = [runner.capture(side, "base", layers) for side in own]
    return Contrast(*runs, *base)
