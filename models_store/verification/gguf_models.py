"""Which transformers model a GGUF file describes: its configuration, and which of its tensors is which weight.

llama.cpp keeps some weights in another form than transformers: rows of heads in the order of its way of rotating them,
norms with one added, all experts of a block in one tensor. The sandbox undoes that (``audit.models.dequantise``).
"""

import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from models_store.errors import ModelRejected
from models_store.files import shown
from models_store.verification.gguf import GgufHeader, GgufTensor
from models_store.verification.headers import Tensor

Config = dict[str, Any]
Own = Mapping[str, Any]
"""The metadata of the architecture, without its name in front."""
Read = Callable[[GgufTensor], bytes]


@dataclass(frozen=True)
class GgufArchitecture:
    """How llama.cpp stores the models of one architecture.

    Attributes:
        model_type: transformers' name of it.
        class_name: transformers' class.
        names: parts of a block whose names are others than most architectures have.
        keys: metadata that are read besides those of all, and the keys of config.json.
        fixed: what config.json says of every such model, where that is not transformers' default.
        rotated_in_pairs: whether rows of queries and keys are stored for rotating neighbours.
        shifted_norms: whether norms are stored with one added.
        rotates_a_part: whether a part of each head may be rotated.
        more: what else the metadata say.
    """

    model_type: str
    class_name: str
    names: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    fixed: Config = field(default_factory=dict)
    rotated_in_pairs: bool = False
    shifted_norms: bool = False
    rotates_a_part: bool = False
    more: Callable[[Own, Config], Config] = lambda _own, _config: {}


@dataclass(frozen=True)
class GgufModel:
    """What transformers makes of a GGUF file.

    Attributes:
        config: config.json.
        tokenizer_config: its special tokens and its chat template.
        tensors: by transformers' names.
        sources: for each of them where its bytes lie, for the sandbox.
        tokens: the vocabulary, by number.
        form: how its weights are stored, in words.
    """

    config: Config
    tokenizer_config: dict[str, Any]
    tensors: dict[str, Tensor]
    sources: dict[str, dict[str, Any]]
    tokens: tuple[str, ...]
    form: str


_TOP: Final = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_ROTARY_TENSORS: Final = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
_BLOCK: Final = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_FOUR_NORMS: Final = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_EXPERTS: Final = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.*.gate_proj",
    "ffn_up_exps": "mlp.experts.*.up_proj",
    "ffn_down_exps": "mlp.experts.*.down_proj",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
_IN_BLOCK: Final = re.compile(r"blk\.(0|[1-9][0-9]{0,4})\.([a-z_]+)\.(weight|bias)")
_WIDEST: Final = {"gemma2": 46, "gemma3": 62}
"""Blocks of the one model of each that scales by its width over its heads and not by the size of a head."""
_LOCAL_BASE: Final = 10_000.0
_FULL_EACH: Final = 6


def _gemma(own: Own, config: Config) -> Config:
    layers, heads, width = (config[key] for key in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    head = config.get("head_dim", 256)
    wide = layers == _WIDEST[config["model_type"].removesuffix("_text")]
    return {"query_pre_attn_scalar": width // heads if wide else head, "head_dim": head}


def _gemma3(own: Own, config: Config) -> Config:
    base = config.pop("rope_theta", 1_000_000.0)
    scaled = config.pop("rope_scaling", None) or {"rope_type": "default"}
    local = own.get("rope.freq_base_swa", _LOCAL_BASE)
    kinds = ["full_attention" if (block + 1) % _FULL_EACH == 0 else "sliding_attention"
             for block in range(min(config["num_hidden_layers"], 1_024))]  # fmt: skip
    return {
        **_gemma(own, config), "layer_types": kinds,
        "rope_parameters": {
            "full_attention": {**scaled, "rope_theta": base},
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        },
    }  # fmt: skip


def _mixture(own: Own, config: Config) -> Config:
    return {"decoder_sparse_step": 1, "mlp_only_layers": []}


_MIXTURE_KEYS: Final = {
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
}
_CAPS: Final = {
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}

GGUF_ARCHITECTURES: Final[dict[str, GgufArchitecture]] = {
    "llama": GgufArchitecture("llama", "LlamaForCausalLM", rotated_in_pairs=True),
    "qwen2": GgufArchitecture("qwen2", "Qwen2ForCausalLM"),
    "qwen3": GgufArchitecture("qwen3", "Qwen3ForCausalLM"),
    "qwen2moe": GgufArchitecture(
        "qwen2_moe", "Qwen2MoeForCausalLM", names=_EXPERTS,
        keys={**_MIXTURE_KEYS, "expert_shared_feed_forward_length": "shared_expert_intermediate_size"},
        fixed={"norm_topk_prob": False}, more=_mixture,
    ),
    "qwen3moe": GgufArchitecture(
        "qwen3_moe", "Qwen3MoeForCausalLM", names=_EXPERTS,
        keys={**_MIXTURE_KEYS, "expert_count": "num_local_experts"}, fixed={"norm_topk_prob": True},
        more=_mixture,
    ),
    "gemma2": GgufArchitecture(
        "gemma2", "Gemma2ForCausalLM", names=_FOUR_NORMS, keys=_CAPS, shifted_norms=True, more=_gemma
    ),
    "gemma3": GgufArchitecture(
        "gemma3_text", "Gemma3ForCausalLM", names=_FOUR_NORMS, keys=_CAPS, shifted_norms=True, more=_gemma3
    ),
    "phi3": GgufArchitecture(
        "phi3", "Phi3ForCausalLM", names={"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
        keys={"attention.sliding_window": "sliding_window"}, rotates_a_part=True,
        more=lambda own, config: {
            "original_max_position_embeddings": own.get(
                "rope.scaling.original_context_length", config["max_position_embeddings"]
            ),
            "pad_token_id": None,
        },
    ),
    "granite": GgufArchitecture(
        "granite", "GraniteForCausalLM",
        keys={
            "attention.scale": "attention_multiplier", "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier", "logit_scale": "logits_scaling",
        },
        rotated_in_pairs=True,
    ),
}  # fmt: skip
"""Architectures of GGUF files that are read."""

_INTEGERS: Final = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
}
_OPTIONAL: Final = ("attention.key_length", "attention.head_count_kv")
_NUMBERS: Final = {"attention.layer_norm_rms_epsilon": "rms_norm_eps", "rope.freq_base": "rope_theta"}
_CHECKED: Final = frozenset(
    {
        "vocab_size", "rope.dimension_count", "attention.value_length", "rope.freq_base_swa", "rope.scaling.type",
        "rope.scaling.factor", "rope.scaling.attn_factor", "rope.scaling.original_context_length",
        "rope.scaling.finetuned",
    }
)  # fmt: skip
# What converters write that changes nothing, as long as it has this value.
_SAYS_NOTHING: Final[dict[str, Any]] = {
    "attention.causal": True, "expert_count": 0, "expert_used_count": 0, "pooling_type": 0, "rope.scale_linear": 1.0,
    "tensor_data_layout": "Meta AI original pth", "use_parallel_residual": False,
}  # fmt: skip
# Llama 3's way of scaling, whose numbers are the same in all of its releases but one.
_LLAMA3: Final = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8_192}
_SPECIAL: Final = {
    "bos_token_id": "bos_token",
    "eos_token_id": "eos_token",
    "unknown_token_id": "unk_token",
    "padding_token_id": "pad_token",
}
_AGAIN: Final = "convert the model again with llama.cpp's convert_hf_to_gguf.py"
_CONVERT: Final = (
    'python -c "import sys; from transformers import AutoModelForCausalLM as M; '
    "m = M.from_pretrained(sys.argv[1], gguf_file=sys.argv[2]); del m.config.quantization_config; "
    'm.hf_quantizer, m.is_quantized = None, False; m.save_pretrained(sys.argv[3])"'
)


def gguf_model(header: GgufHeader, name: str, read: Read) -> GgufModel:
    """What transformers makes of a checked header.

    Args:
        header: of all parts together.
        name: of the first file.
        read: the bytes of a small tensor.

    Raises:
        ModelRejected: an architecture or a setting that is not on the list.
    """
    metadata, where = header.metadata, shown(name)
    kind = metadata.get("general.architecture")
    if not isinstance(kind, str) or kind not in GGUF_ARCHITECTURES:
        raise ModelRejected(
            f"{where}: its architecture is '{shown(str(kind))}'; of GGUF, {', '.join(GGUF_ARCHITECTURES)} are read",
            hint=_convert(where),
        )
    config = _config(metadata, kind, header, where, read)
    tensors, sources = _tensors(header, GGUF_ARCHITECTURES[kind], config, where)
    types = sorted({tensor.type for tensor in header.tensors.values()})
    return GgufModel(config, _tokenizer_config(header), tensors, sources, header.tokens, f"GGUF ({', '.join(types)})")


def _convert(where: str) -> str:
    return f"convert it to safetensors: {_CONVERT} FOLDER {where} FOLDER-safetensors"


def _config(metadata: Mapping[str, Any], kind: str, header: GgufHeader, where: str, read: Read) -> Config:
    architecture = GGUF_ARCHITECTURES[kind]
    own = {key.removeprefix(f"{kind}."): value for key, value in metadata.items() if key.startswith(f"{kind}.")}
    config: Config = {"model_type": architecture.model_type, "architectures": [architecture.class_name]}
    for key, value in own.items():
        name = architecture.keys.get(key) or _INTEGERS.get(key) or _NUMBERS.get(key)
        if name is not None and (type(value) is int or (isinstance(value, float) and key not in _INTEGERS)):
            # The file holds four bytes of a float: 1e-05 is written as the shortest number with these four.
            config[name] = float(f"{value:.7g}") if isinstance(value, float) else value
        elif key not in _CHECKED and (key not in _SAYS_NOTHING or _SAYS_NOTHING[key] != value):
            raise ModelRejected(
                f"{where}: the key '{shown(kind)}.{shown(key)}' is not on the list", hint=_convert(where)
            )
    missing = [key for key, name in _INTEGERS.items() if name not in config and key not in _OPTIONAL]
    if missing == ["feed_forward_length"] and "moe_intermediate_size" in config:
        config["intermediate_size"] = config["moe_intermediate_size"]
    elif missing:
        raise ModelRejected(f"{where}: lacks '{kind}.{missing[0]}'", hint=_AGAIN)
    config.setdefault("num_key_value_heads", config["num_attention_heads"])
    embedding = header.tensors.get("token_embd.weight")
    config["vocab_size"] = 0 if embedding is None else embedding.shape[0]
    config["tie_word_embeddings"] = "output.weight" not in header.tensors
    if "blk.0.attn_q.bias" in header.tensors and kind in ("llama", "granite", "qwen3"):
        config["attention_bias"] = True
    config |= architecture.fixed
    _heads(own, kind, config, where)
    scaling = _scaling(own, header, config, where, read)
    if scaling:
        config["rope_scaling"] = scaling
    config |= architecture.more(own, config)
    for key in ("bos_token_id", "eos_token_id"):
        value = metadata.get(f"tokenizer.ggml.{key}")
        if type(value) is int and 0 <= value < config["vocab_size"]:
            config[key] = value
    return config


def _heads(own: Own, kind: str, config: Config, where: str) -> None:
    """Sizes of a head, and how much of it is rotated."""
    heads = config["num_attention_heads"]
    width = config["hidden_size"] // max(heads, 1)
    head = config.get("head_dim", width)
    config["head_dim"] = head
    if own.get("attention.value_length", head) != head:
        raise ModelRejected(f"{where}: has values of another size than keys", hint=_AGAIN)
    rotated = own.get("rope.dimension_count", head)
    if rotated != head:
        if not GGUF_ARCHITECTURES[kind].rotates_a_part or type(rotated) is not int or not 0 < rotated < head:
            raise ModelRejected(
                f"{where}: rotates a part of each head, which is not read from GGUF", hint=_convert(where)
            )
        config["partial_rotary_factor"] = rotated / head


def _scaling(own: Own, header: GgufHeader, config: Config, where: str, read: Read) -> Config | None:
    """Rotary angles that are scaled, as transformers says it; None where they are not."""
    kind, factor = own.get("rope.scaling.type", "none"), own.get("rope.scaling.factor", 1.0)
    length, scale = own.get("rope.scaling.original_context_length"), own.get("rope.scaling.attn_factor", 1.0)
    if not all(isinstance(value, int | float) and 0 < value < 2**31 for value in (factor, scale, length or 1)):
        raise ModelRejected(f"{where}: scales its rotary angles by an impossible number", hint=_AGAIN)
    freqs, long, short = (_factors(header, name, where, read) for name in _ROTARY_TENSORS)
    if freqs is not None and kind == "none" and long is None and short is None:
        return _llama3(freqs, config) or _by_factors(freqs, freqs, 1.0, config["max_position_embeddings"])
    if long is not None and short is not None and freqs is None and kind in ("none", "longrope"):
        return _by_factors(short, long, float(f"{scale:.7g}"), length or config["max_position_embeddings"])
    if kind == "linear" and freqs is None and long is None and short is None and scale == 1.0:
        return {"rope_type": "linear", "factor": float(factor)}
    if kind == "yarn" and freqs is None and long is None and short is None and scale == 1.0 and length:
        return {"rope_type": "yarn", "factor": float(factor), "original_max_position_embeddings": length}
    if kind != "none" or freqs is not None or long is not None or short is not None:
        raise ModelRejected(
            f"{where}: scales its rotary angles in a way that is not read from GGUF ('{shown(str(kind))}')",
            hint=_convert(where),
        )
    return None


def _factors(header: GgufHeader, name: str, where: str, read: Read) -> list[float] | None:
    """A small tensor of what angles are divided by."""
    tensor = header.tensors.get(name)
    if tensor is None:
        return None
    if tensor.type != "F32" or len(tensor.shape) != 1 or tensor.shape[0] > 4_096:
        raise ModelRejected(f"{where}: tensor '{name}' has an impossible shape", hint=_AGAIN)
    values = list(struct.unpack(f"<{tensor.shape[0]}f", read(tensor)))
    if not all(math.isfinite(value) and 0 < value < 1e6 for value in values):
        raise ModelRejected(f"{where}: tensor '{name}' holds a number that is no factor", hint=_AGAIN)
    return values


def _by_factors(short: list[float], long: list[float], attention: float, length: int) -> Config:
    return {
        "rope_type": "longrope", "short_factor": short, "long_factor": long, "attention_factor": attention,
        "factor": 1.0, "original_max_position_embeddings": length,
    }  # fmt: skip


def _llama3(factors: list[float], config: Config) -> Config | None:
    """Llama 3's words for the factors, if they are those of its releases."""
    low, high, length = _LLAMA3.values()
    most = max(factors)
    for place, factor in enumerate(factors):
        wave = 2 * math.pi * config.get("rope_theta", 10_000.0) ** (place / len(factors))
        smooth = min(max((length / wave - low) / (high - low), 0.0), 1.0)
        if not math.isclose(factor, 1 / ((1 - smooth) / most + smooth), rel_tol=1e-4):
            return None
    return {"rope_type": "llama3", "factor": float(f"{most:.7g}"), **_LLAMA3}


def _tokenizer_config(header: GgufHeader) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, name in _SPECIAL.items():
        number = header.metadata.get(f"tokenizer.ggml.{key}")
        if type(number) is int and 0 <= number < len(header.tokens):
            found[name] = header.tokens[number]
    template = header.metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        found["chat_template"] = template
    return found


def _tensors(
    header: GgufHeader, architecture: GgufArchitecture, config: Config, where: str
) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    names = {**_BLOCK, **architecture.names}
    tensors: dict[str, Tensor] = {}
    sources: dict[str, dict[str, Any]] = {}
    for key, tensor in header.tensors.items():
        if key in _ROTARY_TENSORS:
            continue  # they stand in the configuration
        match = _IN_BLOCK.fullmatch(key)
        part = match[2] if match else ""
        # A name that no table has stays as it is, and is refused as a tensor that the architecture lacks.
        own = f"model.layers.{match[1]}.{names.get(part, part)}.{match[3]}" if match else _TOP.get(key, key)
        rows = heads.get(part, 0) if architecture.rotated_in_pairs else 0
        if rows and tensor.shape[0] % (2 * rows):
            raise ModelRejected(f"{where}: tensor '{shown(key)}' has an impossible shape", hint=_AGAIN)
        shape = tensor.shape
        if part == "ffn_gate_inp_shexp" and len(shape) == 1:
            shape = (1, *shape)
        shift = 1 if architecture.shifted_norms and own.endswith("norm.weight") else 0
        for name, place, size in _split(own, tensor, shape):
            # Types of blocks are floats once they are dequantised.
            dtype = tensor.type if tensor.type in ("F16", "BF16") else "F32"
            tensors[name] = Tensor(dtype, size, place[0], place[1], tensor.file, packed=True)
            sources[name] = {
                "file": tensor.file, "type": tensor.type, "shape": list(size), "start": place[0], "stop": place[1],
                "permuted_heads": rows, "shift": shift,
            }  # fmt: skip
    return tensors, sources


def _split(name: str, tensor: GgufTensor, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, int], tuple[int, ...]]]:
    """A tensor, or each of its experts: their bytes lie one after the other."""
    if ".experts.*." not in name or len(shape) != 3:
        return [(name, (tensor.start, tensor.stop), shape)]
    count = (tensor.stop - tensor.start) // shape[0]
    return [
        (
            name.replace("*", str(expert)),
            (tensor.start + expert * count, tensor.start + (expert + 1) * count),
            shape[1:],
        )
        for expert in range(shape[0])
    ]
