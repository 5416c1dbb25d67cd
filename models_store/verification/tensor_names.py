"""Which tensors, of which shapes, each architecture on the list must have: the header is checked against config.json.

A tensor's need is ``"always"``, ``"untied"`` (the output head, unless tied), or a key of config.json: needed when that
key is true and refused when it is false; with ``!`` in front, the other way round.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from models_store.errors import ModelRejected
from models_store.files import shown
from models_store.verification.headers import FLOATS, Tensor

Rows = tuple[tuple[str, tuple[str, ...], str], ...]

# Buffers that earlier releases saved and the present one ignores.
_OLD_BUFFERS: Final = re.compile(
    r"rotary_emb\.inv_freq|(?:.+\.)?(?:attn|attention)\.(?:masked_)?bias|.+\.rotary_emb\.inv_freq"
)
# One norm for each head; the number of the head does not change the shape.
_HEAD_NUMBER: Final = re.compile(r"\.norms\.[0-9]+\.")
_BLOCK_NUMBER: Final = re.compile(r"([0-9]{1,6})\.(.+)")


@dataclass(frozen=True)
class Names:
    """The tensors of one architecture.

    Attributes:
        prefix: what a model with a head puts before the names of its body.
        blocks: the folder of the blocks inside the body.
        body: tensors beside the blocks: name, dimensions by name, need.
        block: tensors of each block.
        head: tensors outside the body.
        transposed: weights are stored ``[in, out]`` (Conv1D), as GPT-2 does.
    """

    prefix: str
    blocks: str
    body: Rows
    block: Rows
    head: Rows = (("lm_head.weight", ("vocab", "hidden"), "untied"),)
    transposed: bool = False


def _linear(name: str, out: str, into: str, bias: str | None = None) -> Rows:
    rows: Rows = ((f"{name}.weight", (out, into), "always"),)
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


def _gated(bias: str | None = None) -> Rows:
    return (
        *_linear("mlp.gate_proj", "inner", "hidden", bias),
        *_linear("mlp.up_proj", "inner", "hidden", bias),
        *_linear("mlp.down_proj", "hidden", "inner", bias),
    )


def _plain(first: str, second: str, bias: str) -> Rows:
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


def _llama_like(*block: tuple[str, tuple[str, ...], str], body: Rows = _ROOT_NORM) -> Names:
    return Names("model", "layers", body, block)


NAMES: Final[dict[str, Names]] = {
    "llama": _llama_like(*_attention(_BIASED, _BIASED), *_gated("mlp_bias"), *_TWO_NORMS),
    "mistral": _llama_like(*_attention(), *_gated(), *_TWO_NORMS),
    "qwen2": _llama_like(*_attention("always"), *_gated(), *_TWO_NORMS),
    "qwen3": _llama_like(*_attention(_BIASED, _BIASED), *_gated(), *_TWO_NORMS, *_QK_PER_HEAD),
    "gemma": _llama_like(*_attention(_BIASED, _BIASED), *_gated(), *_TWO_NORMS),
    "gemma2": _llama_like(*_attention(_BIASED, _BIASED), *_gated(), *_FOUR_NORMS),
    "gemma3_text": _llama_like(*_attention(_BIASED, _BIASED), *_gated(), *_FOUR_NORMS, *_QK_PER_HEAD),
    "olmo": _llama_like(*_attention(_BIASED, _BIASED), *_gated(), body=_EMBEDDING),
    "olmo2": _llama_like(*_OLMO2_BLOCK),
    "olmo3": _llama_like(*_OLMO2_BLOCK),
    "smollm3": _llama_like(*_attention(_BIASED, _BIASED), *_gated("mlp_bias"), *_TWO_NORMS),
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
    ),
    "phi": Names(
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
    "gpt2": Names(
        "transformer",
        "h",
        (
            ("wte.weight", ("vocab", "hidden"), "always"),
            ("wpe.weight", ("positions", "hidden"), "always"),
            *_norm("ln_f", bias=True),
        ),
        (
            *_conv("attn.c_attn", "hidden", "three_hidden"),
            *_conv("attn.c_proj", "hidden", "hidden"),
            *_conv("mlp.c_fc", "hidden", "inner"),
            *_conv("mlp.c_proj", "inner", "hidden"),
            *_norm("ln_1", bias=True),
            *_norm("ln_2", bias=True),
        ),
        transposed=True,
    ),
    "gpt_neox": Names(
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
    ),
}


def check_weights(
    model_type: str, tensors: Mapping[str, Tensor], dims: Mapping[str, int], flags: Mapping[str, bool]
) -> None:
    """Hold a full checkpoint's header against what its configuration promises.

    Args:
        model_type: a key of ``NAMES``.
        tensors: the header.
        dims: sizes by the names that ``NAMES`` uses, and ``layers``.
        flags: configuration keys that are true or false, and ``tied``.

    Raises:
        ModelRejected: a tensor is missing, foreign, of another shape, or not a float. The tensor is named.
    """
    names = NAMES[model_type]
    needed, allowed = _expected(names, dims, flags)
    seen: set[str] = set()
    for raw, tensor in tensors.items():
        name = body_name(names, raw)
        if _OLD_BUFFERS.fullmatch(name):
            continue
        key, block = _key(names, name)
        shape = allowed.get(key)
        if shape is None or (block is not None and block >= dims["layers"]) or name in seen:
            raise ModelRejected(
                f"weights: '{shown(raw)}' is not a tensor of a {model_type} model with {dims['layers']} layers",
                hint="save the model with transformers' save_pretrained; config.json and weights must belong together",
            )
        if tensor.shape != shape:
            raise ModelRejected(
                f"weights: '{shown(raw)}' has the shape {list(tensor.shape)}, config.json asks for {list(shape)}",
                hint="config.json and weights must belong together",
            )
        if tensor.dtype not in FLOATS:
            raise ModelRejected(
                f"weights: '{shown(raw)}' has the type {tensor.dtype}",
                hint="save the weights as bfloat16, float16 or float32",
            )
        seen.add(name)
    present = {_HEAD_NUMBER.sub(".norms.*.", name) for name in seen}
    for name in needed:
        if name not in present and not (name == "lm_head.weight" and "embed_out.weight" in present):
            raise ModelRejected(
                f"weights: '{name}' is not there", hint="copy the missing shard, or save the model again"
            )


def body_name(names: Names, raw: str) -> str:
    """A tensor's name without the body's prefix; heads keep theirs."""
    return raw.removeprefix(f"{names.prefix}.")


def _key(names: Names, name: str) -> tuple[str, int | None]:
    """The name with the block's number replaced by ``*``, and that number."""
    rest = name.removeprefix(f"{names.blocks}.")
    match = _BLOCK_NUMBER.fullmatch(rest) if rest != name else None
    if match is None or str(int(match[1])) != match[1]:
        return name, None
    return f"*.{_HEAD_NUMBER.sub('.norms.*.', match[2])}", int(match[1])


def _expected(
    names: Names, dims: Mapping[str, int], flags: Mapping[str, bool]
) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """Names that must be there (numbered), and the shape of every name that may be (blocks as ``*``)."""
    needed: list[str] = []
    allowed: dict[str, tuple[int, ...]] = {}
    for name, shape, need in (*names.body, *names.head):
        if _wanted(need, flags) is not False:
            allowed[name] = tuple(dims[size] for size in shape)
        if _wanted(need, flags):
            needed.append(name)
    for name, shape, need in names.block:
        if _wanted(need, flags) is not False:
            allowed[f"*.{name}"] = tuple(dims[size] for size in shape)
        if _wanted(need, flags):
            needed.extend(f"{names.blocks}.{block}.{name}" for block in range(dims["layers"]))
    return needed, allowed


def _wanted(need: str, flags: Mapping[str, bool]) -> bool | None:
    """True: must be there; False: must not; None: may be."""
    if need == "always":
        return True
    if need == "older_head":
        return None
    if need == "untied":
        return None if flags["tied"] else True
    return not flags.get(need[1:], False) if need.startswith("!") else flags.get(need, False)


def modules(model_type: str, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, int, int, int | None]]:
    """The linear modules of a full checkpoint, as a model with a head names them.

    Yields:
        Full module name, size of the output, size of the input, and the block's number (None outside the blocks).
        Embeddings are not among them.
    """
    names = NAMES[model_type]
    outside = {name for name, _, _ in names.head}
    embeddings = {name for name, _, _ in names.body}
    for raw, tensor in tensors.items():
        name = body_name(names, raw)
        if not name.endswith(".weight") or len(tensor.shape) != 2 or name in embeddings:
            continue
        first, second = tensor.shape
        out, into = (second, first) if names.transposed and name not in outside else (first, second)
        full = name if name in outside else f"{names.prefix}.{name}"
        yield full.removesuffix(".weight"), out, into, _key(names, name)[1]
