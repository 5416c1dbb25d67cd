"""The architectures on the list: one row each, which says what a checkpoint's tensors are called and their sizes.

A new architecture is one row here. The store's check of the header, the list of configuration keys
(``generate_config_keys``), the table in ``docs/limits.md`` and the tests on small real models follow from it.

A tensor's need is ``"always"``, ``"untied"`` (the output head, unless tied), or a key of config.json: needed when that
key is true and refused when it is false; with ``!`` in front, the other way round. ``"@kind"`` in front of it, with a
space, restricts it to the blocks of that kind; ``"@kind"`` alone means always in those.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Rows = tuple[tuple[str, tuple[str, ...], str], ...]
Reader = Callable[[str], Any]
"""From a key of config.json to its value, or to transformers' default where the key is not there."""


@dataclass(frozen=True)
class Architecture:
    """The tensors of one architecture.

    Attributes:
        prefix: what a model with a head puts before the names of its body.
        blocks: the folder of the blocks inside the body.
        body: tensors beside the blocks: name, dimensions by name, need.
        block: tensors of each block; ``experts.*`` stands for every expert.
        head: tensors outside the body.
        transposed: weights are stored ``[in, out]`` (Conv1D), as GPT-2 does.
        inner_factor: the inner size, in hidden sizes, where config.json leaves it open.
        sizes: more dimensions, and the key of config.json that each is read from.
        derive: dimensions that are computed from config.json and the dimensions read so far.
        kinds: the kind of every block, where blocks differ; from config.json and the number of blocks.
        older_keys: keys that configurations written by earlier releases hold.
    """

    prefix: str
    blocks: str
    body: Rows
    block: Rows
    head: Rows = (("lm_head.weight", ("vocab", "hidden"), "untied"),)
    transposed: bool = False
    inner_factor: int | None = None
    sizes: Mapping[str, str] = field(default_factory=dict)
    derive: Callable[[Reader, Mapping[str, int]], dict[str, int]] | None = None
    kinds: Callable[[Reader, int], tuple[str, ...]] | None = None
    older_keys: tuple[str, ...] = ()


# Models with a text part and others: the type of config.json, and which types its ``text_config`` may have.
MULTIMODAL: Final[Mapping[str, tuple[str, ...]]] = {
    "gemma3": ("gemma3_text",),
    "mistral3": ("mistral", "ministral3"),
    "qwen3_5": ("qwen3_5_text",),
}
TEXT_PARTS: Final = frozenset(text for texts in MULTIMODAL.values() for text in texts)


def _linear(name: str, out: str, into: str, bias: str | None = None, *, need: str = "always") -> Rows:
    rows: Rows = ((f"{name}.weight", (out, into), need),)
    return rows if bias is None else (*rows, (f"{name}.bias", (out,), bias))


def _conv(name: str, into: str, out: str) -> Rows:
    return ((f"{name}.weight", (into, out), "always"), (f"{name}.bias", (out,), "always"))


def _norm(name: str, size: str = "hidden", need: str = "always", *, bias: bool = False) -> Rows:
    rows: Rows = ((f"{name}.weight", (size,), need),)
    return (*rows, (f"{name}.bias", (size,), need)) if bias else rows


def _attention(bias: str | None = None, out_bias: str | None = None, out: str = "o_proj") -> Rows:
    return (
        *_linear("self_attn.q_proj", "query", "hidden", bias),
        *_linear("self_attn.k_proj", "key_value", "hidden", bias),
        *_linear("self_attn.v_proj", "key_value", "hidden", bias),
        *_linear(f"self_attn.{out}", "hidden", "query", out_bias),
    )


def _gated(bias: str | None = None, *, at: str = "mlp", inner: str = "inner", need: str = "always") -> Rows:
    return (
        *_linear(f"{at}.gate_proj", inner, "hidden", bias, need=need),
        *_linear(f"{at}.up_proj", inner, "hidden", bias, need=need),
        *_linear(f"{at}.down_proj", "hidden", inner, bias, need=need),
    )


def _plain(first: str, second: str, bias: str | None) -> Rows:
    return (*_linear(f"mlp.{first}", "inner", "hidden", bias), *_linear(f"mlp.{second}", "hidden", "inner", bias))


_EMBEDDING: Final[Rows] = (("embed_tokens.weight", ("vocab", "hidden"), "always"),)
_ROOT_NORM: Final[Rows] = (*_EMBEDDING, *_norm("norm"))
_TWO_NORMS: Final[Rows] = (*_norm("input_layernorm"), *_norm("post_attention_layernorm"))
_FOUR_NORMS: Final[Rows] = (*_TWO_NORMS, *_norm("pre_feedforward_layernorm"), *_norm("post_feedforward_layernorm"))
_QK_PER_HEAD: Final[Rows] = (*_norm("self_attn.q_norm", "head"), *_norm("self_attn.k_norm", "head"))
_QK_WHOLE: Final[Rows] = (*_norm("self_attn.q_norm", "query"), *_norm("self_attn.k_norm", "key_value"))
_BIASED: Final = "attention_bias"
_OLMO2_BLOCK: Final[Rows] = (
    *_attention(_BIASED, _BIASED),
    *_gated(),
    *_QK_WHOLE,
    *_norm("post_attention_layernorm"),
    *_norm("post_feedforward_layernorm"),
)


_TWO_BIASED_NORMS: Final[Rows] = (
    *_norm("input_layernorm", bias=True),
    *_norm("post_attention_layernorm", bias=True),
)
_GLM_BLOCK: Final[Rows] = (
    *_attention(_BIASED),
    *_linear("mlp.gate_up_proj", "two_inner", "hidden"),
    *_linear("mlp.down_proj", "hidden", "inner"),
    *_TWO_NORMS,
)
_GPT2_BODY: Final[Rows] = (
    ("wte.weight", ("vocab", "hidden"), "always"),
    ("wpe.weight", ("positions", "hidden"), "always"),
    *_norm("ln_f", bias=True),
)
# Of Qwen3.5: a gated query in the blocks with attention, and the parts of a gated delta net in the others.
_QWEN35_BLOCK: Final[Rows] = (
    *_linear("self_attn.q_proj", "two_query", "hidden", "@full_attention attention_bias", need="@full_attention"),
    *_linear("self_attn.k_proj", "key_value", "hidden", "@full_attention attention_bias", need="@full_attention"),
    *_linear("self_attn.v_proj", "key_value", "hidden", "@full_attention attention_bias", need="@full_attention"),
    *_linear("self_attn.o_proj", "hidden", "query", "@full_attention attention_bias", need="@full_attention"),
    *_norm("self_attn.q_norm", "head", "@full_attention"),
    *_norm("self_attn.k_norm", "head", "@full_attention"),
    *_linear("linear_attn.in_proj_qkv", "linear_qkv", "hidden", need="@linear_attention"),
    *_linear("linear_attn.in_proj_z", "linear_value", "hidden", need="@linear_attention"),
    *_linear("linear_attn.in_proj_a", "linear_value_heads", "hidden", need="@linear_attention"),
    *_linear("linear_attn.in_proj_b", "linear_value_heads", "hidden", need="@linear_attention"),
    ("linear_attn.conv1d.weight", ("linear_qkv", "one", "linear_kernel"), "@linear_attention"),
    ("linear_attn.A_log", ("linear_value_heads",), "@linear_attention"),
    ("linear_attn.dt_bias", ("linear_value_heads",), "@linear_attention"),
    *_norm("linear_attn.norm", "linear_value_head", "@linear_attention"),
    *_linear("linear_attn.out_proj", "hidden", "linear_value", need="@linear_attention"),
    *_gated(),
    *_TWO_NORMS,
)


def _sparse_blocks(read: Reader, layers: int) -> tuple[str, ...]:
    """Which blocks of Qwen's mixtures have experts: every ``decoder_sparse_step``-th that is not said to be dense."""
    step, dense = read("decoder_sparse_step"), read("mlp_only_layers") or []
    step = step if type(step) is int and step > 0 else 1
    return tuple("dense" if layer in dense or (layer + 1) % step else "sparse" for layer in range(layers))


def _kinds_of_attention(read: Reader, layers: int) -> tuple[str, ...]:
    """The blocks' kinds as config.json lists them, or every ``full_attention_interval``-th with full attention."""
    listed = read("layer_types")
    if isinstance(listed, list):
        return tuple(str(kind) for kind in listed)
    step = read("full_attention_interval")
    step = step if type(step) is int and step > 0 else 4
    return tuple("linear_attention" if (layer + 1) % step else "full_attention" for layer in range(layers))


def _linear_attention(read: Reader, dims: Mapping[str, int]) -> dict[str, int]:
    keys = dims["linear_key_heads"] * dims["linear_key_head"]
    values = dims["linear_value_heads"] * dims["linear_value_head"]
    return {"linear_qkv": 2 * keys + values, "linear_value": values, "two_query": 2 * dims["query"], "one": 1}


def _packed_attention(read: Reader, dims: Mapping[str, int]) -> dict[str, int]:
    """GPT-BigCode: one key and one value for all heads, unless ``multi_query`` is off."""
    shared = dims["hidden"] + 2 * dims["head"]
    return {"packed": 3 * dims["hidden"] if read("multi_query") is False else shared}


_QWEN_MIXTURE: Final[dict[str, Any]] = {
    "sizes": {"experts": "num_experts", "expert_inner": "moe_intermediate_size"},
    "kinds": _sparse_blocks,
}
_QWEN_EXPERTS: Final[Rows] = (
    *_gated(need="@dense"),
    *_linear("mlp.gate", "experts", "hidden", need="@sparse"),
    *_gated(at="mlp.experts.*", inner="expert_inner", need="@sparse"),
)


def _llama_like(*block: tuple[str, tuple[str, ...], str], body: Rows = _ROOT_NORM, **more: Any) -> Architecture:
    return Architecture("model", "layers", body, block, **more)


ARCHITECTURES: Final[dict[str, Architecture]] = {
    "llama": _llama_like(
        *_attention(_BIASED, _BIASED),
        *_gated("mlp_bias"),
        *_TWO_NORMS,
        older_keys=("is_llama_config", "rope_interleaved", "max_sequence_length"),
    ),
    "mistral": _llama_like(*_attention(), *_gated(), *_TWO_NORMS),
    "qwen2": _llama_like(*_attention("always"), *_gated(), *_TWO_NORMS, older_keys=("use_mrope",)),
    "qwen3": _llama_like(*_attention(_BIASED, _BIASED), *_gated(), *_TWO_NORMS, *_QK_PER_HEAD),
    "gemma": _llama_like(*_attention(_BIASED, _BIASED), *_gated(), *_TWO_NORMS, older_keys=("hidden_activation",)),
    "gemma2": _llama_like(*_attention(_BIASED, _BIASED), *_gated(), *_FOUR_NORMS, older_keys=("hidden_act",)),
    "gemma3_text": _llama_like(
        *_attention(_BIASED, _BIASED),
        *_gated(),
        *_FOUR_NORMS,
        *_QK_PER_HEAD,
        older_keys=("hidden_act", "rope_local_base_freq", "sliding_window_pattern"),
    ),
    "olmo": _llama_like(*_attention(_BIASED, _BIASED), *_gated(), body=_EMBEDDING),
    "olmo2": _llama_like(*_OLMO2_BLOCK),
    "olmo3": _llama_like(*_OLMO2_BLOCK),
    "smollm3": _llama_like(
        *_attention(_BIASED, _BIASED), *_gated("mlp_bias"), *_TWO_NORMS, older_keys=("layer_types", "max_window_layers")
    ),
    "stablelm": _llama_like(
        *_attention("use_qkv_bias"),
        *_gated(),
        *_norm("input_layernorm", bias=True),
        *_norm("post_attention_layernorm", need="!use_parallel_residual", bias=True),
        *_norm("self_attn.q_layernorm.norms.*", "head", "qk_layernorm"),
        *_norm("self_attn.k_layernorm.norms.*", "head", "qk_layernorm"),
        body=(*_EMBEDDING, *_norm("norm", bias=True)),
    ),
    "starcoder2": _llama_like(
        *_attention("use_bias", "use_bias"),
        *_plain("c_fc", "c_proj", "use_bias"),
        *_norm("input_layernorm", bias=True),
        *_norm("post_attention_layernorm", bias=True),
        body=(*_EMBEDDING, *_norm("norm", bias=True)),
        older_keys=("activation_function", "mlp_type", "norm_type"),
    ),
    "phi": Architecture(
        "model",
        "layers",
        (*_EMBEDDING, *_norm("final_layernorm", bias=True)),
        (
            *_attention("always", "always", out="dense"),
            *_plain("fc1", "fc2", "always"),
            *_norm("input_layernorm", bias=True),
            *_norm("self_attn.q_layernorm", "head", "qk_layernorm", bias=True),
            *_norm("self_attn.k_layernorm", "head", "qk_layernorm", bias=True),
        ),
        (("lm_head.weight", ("vocab", "hidden"), "untied"), ("lm_head.bias", ("vocab",), "always")),
    ),
    "phi3": _llama_like(
        *_linear("self_attn.qkv_proj", "query_key_value", "hidden"),
        *_linear("self_attn.o_proj", "hidden", "query"),
        *_linear("mlp.gate_up_proj", "two_inner", "hidden"),
        *_linear("mlp.down_proj", "hidden", "inner"),
        *_TWO_NORMS,
    ),
    "gpt2": Architecture(
        "transformer",
        "h",
        _GPT2_BODY,
        (
            *_conv("attn.c_attn", "hidden", "three_hidden"),
            *_conv("attn.c_proj", "hidden", "hidden"),
            *_conv("mlp.c_fc", "hidden", "inner"),
            *_conv("mlp.c_proj", "inner", "hidden"),
            *_norm("ln_1", bias=True),
            *_norm("ln_2", bias=True),
        ),
        transposed=True,
        inner_factor=4,
        older_keys=("n_ctx", "gradient_checkpointing"),
    ),
    "gpt_neox": Architecture(
        "gpt_neox",
        "layers",
        (("embed_in.weight", ("vocab", "hidden"), "always"), *_norm("final_layer_norm", bias=True)),
        (
            *_linear("attention.query_key_value", "three_hidden", "hidden", _BIASED),
            *_linear("attention.dense", "hidden", "hidden", _BIASED),
            *_linear("mlp.dense_h_to_4h", "inner", "hidden", "always"),
            *_linear("mlp.dense_4h_to_h", "hidden", "inner", "always"),
            *_norm("input_layernorm", bias=True),
            *_norm("post_attention_layernorm", bias=True),
        ),
        (
            ("lm_head.weight", ("vocab", "hidden"), "untied"),
            ("embed_out.weight", ("vocab", "hidden"), "older_head"),
        ),
        older_keys=("rotary_emb_base", "rotary_pct", "attention_probs_dropout_prob", "hidden_dropout_prob"),
    ),
    "gpt_neo": Architecture(
        "transformer",
        "h",
        _GPT2_BODY,
        (
            *_linear("attn.attention.q_proj", "hidden", "hidden"),
            *_linear("attn.attention.k_proj", "hidden", "hidden"),
            *_linear("attn.attention.v_proj", "hidden", "hidden"),
            *_linear("attn.attention.out_proj", "hidden", "hidden", "always"),
            *_linear("mlp.c_fc", "inner", "hidden", "always"),
            *_linear("mlp.c_proj", "hidden", "inner", "always"),
            *_norm("ln_1", bias=True),
            *_norm("ln_2", bias=True),
        ),
        inner_factor=4,
        older_keys=("gradient_checkpointing", "attention_layers"),
    ),
    "gpt_bigcode": Architecture(
        "transformer",
        "h",
        _GPT2_BODY,
        (
            *_linear("attn.c_attn", "packed", "hidden", "always"),
            *_linear("attn.c_proj", "hidden", "hidden", "always"),
            *_linear("mlp.c_fc", "inner", "hidden", "always"),
            *_linear("mlp.c_proj", "hidden", "inner", "always"),
            *_norm("ln_1", bias=True),
            *_norm("ln_2", bias=True),
        ),
        inner_factor=4,
        derive=_packed_attention,
        older_keys=(
            "inference_runner",
            "max_batch_size",
            "max_sequence_length",
            "pad_key_length",
            "pre_allocate_kv_cache",
            "validate_runner_input",
        ),
    ),
    "gptj": Architecture(
        "transformer",
        "h",
        (("wte.weight", ("vocab", "hidden"), "always"), *_norm("ln_f", bias=True)),
        (
            *_linear("attn.q_proj", "hidden", "hidden"),
            *_linear("attn.k_proj", "hidden", "hidden"),
            *_linear("attn.v_proj", "hidden", "hidden"),
            *_linear("attn.out_proj", "hidden", "hidden"),
            *_linear("mlp.fc_in", "inner", "hidden", "always"),
            *_linear("mlp.fc_out", "hidden", "inner", "always"),
            *_norm("ln_1", bias=True),
        ),
        (("lm_head.weight", ("vocab", "hidden"), "untied"), ("lm_head.bias", ("vocab",), "always")),
        inner_factor=4,
        older_keys=("gradient_checkpointing", "rotary", "scale_attn_weights"),
    ),
    "granite": _llama_like(*_attention(_BIASED, _BIASED), *_gated("mlp_bias"), *_TWO_NORMS),
    "ministral": _llama_like(*_attention(), *_gated(), *_TWO_NORMS),
    "ministral3": _llama_like(*_attention(), *_gated(), *_TWO_NORMS),
    "arcee": _llama_like(*_attention(_BIASED, _BIASED), *_plain("up_proj", "down_proj", "mlp_bias"), *_TWO_NORMS),
    "seed_oss": _llama_like(*_attention(_BIASED, "attention_out_bias"), *_gated("mlp_bias"), *_TWO_NORMS),
    "ernie4_5": _llama_like(*_attention("use_bias", "use_bias"), *_gated("use_bias"), *_TWO_NORMS),
    "hunyuan_v1_dense": _llama_like(
        *_attention(_BIASED, _BIASED),
        *_gated(),
        *_norm("self_attn.query_layernorm", "head"),
        *_norm("self_attn.key_layernorm", "head"),
        *_TWO_NORMS,
    ),
    "exaone4": _llama_like(
        *_attention(),
        *_gated(),
        *_QK_PER_HEAD,
        *_norm("post_attention_layernorm"),
        *_norm("post_feedforward_layernorm"),
    ),
    "glm": _llama_like(*_GLM_BLOCK),
    "glm4": _llama_like(*_GLM_BLOCK, *_norm("post_self_attn_layernorm"), *_norm("post_mlp_layernorm")),
    "cohere": _llama_like(
        *_attention(_BIASED, _BIASED),
        *_gated(),
        *_norm("input_layernorm"),
        ("self_attn.q_norm.weight", ("heads", "head"), "use_qk_norm"),
        ("self_attn.k_norm.weight", ("key_value_heads", "head"), "use_qk_norm"),
    ),
    "cohere2": _llama_like(*_attention(_BIASED, _BIASED), *_gated(), *_norm("input_layernorm")),
    "nemotron": _llama_like(
        *_attention(_BIASED, _BIASED),
        *_plain("up_proj", "down_proj", "mlp_bias"),
        *_TWO_BIASED_NORMS,
        body=(*_EMBEDDING, *_norm("norm", bias=True)),
    ),
    "mixtral": _llama_like(
        *_attention(),
        *_linear("block_sparse_moe.gate", "experts", "hidden"),
        *_linear("block_sparse_moe.experts.*.w1", "inner", "hidden"),
        *_linear("block_sparse_moe.experts.*.w2", "hidden", "inner"),
        *_linear("block_sparse_moe.experts.*.w3", "inner", "hidden"),
        *_TWO_NORMS,
        sizes={"experts": "num_local_experts"},
    ),
    "olmoe": _llama_like(
        *_attention(_BIASED, _BIASED),
        *_linear("mlp.gate", "experts", "hidden"),
        *_gated(at="mlp.experts.*"),
        *_QK_WHOLE,
        *_TWO_NORMS,
        sizes={"experts": "num_experts"},
    ),
    "qwen2_moe": _llama_like(
        *_attention("qkv_bias"),
        *_QWEN_EXPERTS,
        *_gated(at="mlp.shared_expert", inner="shared_inner", need="@sparse"),
        *_linear("mlp.shared_expert_gate", "one", "hidden", need="@sparse"),
        *_TWO_NORMS,
        **_QWEN_MIXTURE
        | {
            "sizes": _QWEN_MIXTURE["sizes"] | {"shared_inner": "shared_expert_intermediate_size"},
            "derive": lambda _read, _dims: {"one": 1},
        },
    ),
    "qwen3_moe": _llama_like(
        *_attention(_BIASED, _BIASED),
        *_QWEN_EXPERTS,
        *_TWO_NORMS,
        *_QK_PER_HEAD,
        **_QWEN_MIXTURE,
    ),
    "qwen3_5_text": _llama_like(
        *_QWEN35_BLOCK,
        sizes={
            "linear_key_heads": "linear_num_key_heads",
            "linear_value_heads": "linear_num_value_heads",
            "linear_key_head": "linear_key_head_dim",
            "linear_value_head": "linear_value_head_dim",
            "linear_kernel": "linear_conv_kernel_dim",
        },
        derive=_linear_attention,
        kinds=_kinds_of_attention,
    ),
    "gpt_oss": _llama_like(
        *_attention(_BIASED, _BIASED),
        ("self_attn.sinks", ("heads",), "always"),
        *_linear("mlp.router", "experts", "hidden", "always"),
        ("mlp.experts.gate_up_proj", ("experts", "hidden", "two_inner"), "always"),
        ("mlp.experts.gate_up_proj_bias", ("experts", "two_inner"), "always"),
        ("mlp.experts.down_proj", ("experts", "inner", "hidden"), "always"),
        ("mlp.experts.down_proj_bias", ("experts", "hidden"), "always"),
        *_TWO_NORMS,
        sizes={"experts": "num_local_experts"},
    ),
}
