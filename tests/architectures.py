"""Small real models of every architecture on the list, with random weights."""

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "intermediate_size": 40,
    "vocab_size": 64,
    "max_position_embeddings": 48,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "num_experts": 3,
    "num_local_experts": 3,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 10,
    "sliding_window": 6,
    "use_sliding_window": True,
}


def _more(model_type: str, layers: int) -> dict[str, Any]:
    """What an architecture needs besides, so that two blocks show all that it has."""
    if model_type == "gpt_neo":
        return {"attention_types": [[["global", "local"], layers // 2]]}
    if model_type == "gptj":
        return {"rotary_dim": 4}
    if model_type in ("qwen2_moe", "qwen3_moe"):
        return {"mlp_only_layers": [0]}
    if model_type == "qwen3_5_text":
        return {"layer_types": ["linear_attention", "full_attention"] * (layers // 2)}
    return {}


def tiny(model_type: str, layers: int = 2, **changes: Any) -> nn.Module:
    """A model of one architecture in float32, as transformers initialises it."""
    configuration = CONFIG_MAPPING[model_type]
    known = configuration().to_dict()
    wanted = SIZES | {"num_hidden_layers": layers}
    sizes = {configuration.attribute_map.get(key, key): value for key, value in wanted.items()}
    values = {key: value for key, value in sizes.items() if key in known}
    if "layer_types" in known:
        values["layer_types"] = ["sliding_attention", "full_attention"] * (layers // 2)
    values |= _more(model_type, layers) | changes
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(configuration(**values)).to(torch.float32)
