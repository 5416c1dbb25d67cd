"""config.json: keys on a list, values of a known kind, sizes that a model can have.

What is judged here is what ``rewriting`` left of the file, which is also what transformers will read.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from typing import Any, Final

from models_store.errors import ModelRejected
from models_store.files import shown
from models_store.verification.architectures import ARCHITECTURES


def _words(text: str) -> list[str]:
    return text.split()


MAX_LAYERS: Final = 1_024
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_MAX_TEXT: Final = 1_000
_MAX_ITEMS: Final = 4_096

# Largest size of each kind that is believed. What the header must agree with needs no close bound.
_BOUNDS: Final = {
    "hidden_size": 131_072,
    "intermediate_size": 1_048_576,
    "num_hidden_layers": MAX_LAYERS,
    "num_attention_heads": 4_096,
    "num_key_value_heads": 4_096,
    "head_dim": 4_096,
    "vocab_size": 4_194_304,
    "max_position_embeddings": 16_777_216,
    "num_experts": 4_096,
    "num_local_experts": 4_096,
}
_MOST: Final = 1_048_576
DTYPES: Final = ("bfloat16", "float16", "float32")
# Keys that may only have these values: everything else makes another kind of model, or other outputs.
_FIXED: Final[dict[str, tuple[Any, ...]]] = {
    "add_cross_attention": (False, None),
    "chunk_size_feed_forward": (0,),
    "cross_attention_hidden_size": (None,),
    "is_decoder": (False, True, None),
    "is_encoder_decoder": (False,),
    "output_attentions": (False, None),
    "output_hidden_states": (False, None),
    "pruned_heads": ({}, None),
    "return_dict": (True,),
    "tie_encoder_decoder": (False,),
    "torchscript": (False, None),
    "use_bidirectional_attention": (False, None),
    "use_mrope": (False, None),
    "dtype": (*DTYPES, None),
    "torch_dtype": (*DTYPES, None),
    "mlp_type": ("default",),
    "norm_type": ("layer_norm",),
}
_ACTIVATION_KEYS: Final = frozenset({"hidden_act", "hidden_activation", "activation_function"})
FLAGS: Final = frozenset(
    {
        "tie_word_embeddings",
        "attention_bias",
        "mlp_bias",
        "use_bias",
        "use_qkv_bias",
        "qk_layernorm",
        "use_parallel_residual",
        "qkv_bias",
        "attention_out_bias",
        "use_qk_norm",
    }
)
_LAYER_TYPES: Final = frozenset({"full_attention", "sliding_attention", "linear_attention"})
ROTARY_KEYS: Final = frozenset(
    {
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "factor",
        "full_attention",
        "high_freq_factor",
        "long_factor",
        "long_mscale",
        "low_freq_factor",
        "mscale",
        "mscale_all_dim",
        "max_position_embeddings",
        "mrope_interleaved",
        "mrope_section",
        "llama_4_scaling_beta",
        "original_max_position_embeddings",
        "partial_rotary_factor",
        "rope_theta",
        "rope_type",
        "short_factor",
        "short_mscale",
        "sliding_attention",
        "truncate",
        "type",
    }
)
# What each kind of rotary embeddings cannot do without.
_ROTARY_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "default": (),
    "dynamic": ("factor",),
    "linear": ("factor",),
    "llama3": ("factor", "high_freq_factor", "low_freq_factor"),
    "longrope": ("long_factor", "short_factor"),
    "proportional": (),
    "yarn": ("factor",),
}
ROTARY_TYPES: Final = frozenset(_ROTARY_NEEDS)
# Notes of the library that wrote the file and settings of generation: no weight and no forward pass depends on them.
INERT_KEYS: Final = frozenset(
    _words("""
_attn_implementation_autoset _commit_hash _model_name_or_path _name_or_path bad_words_ids begin_suppress_tokens
bos_token_id cache_implementation decoder_start_token_id diversity_penalty do_sample early_stopping
encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task forced_bos_token_id
forced_eos_token_id gradient_checkpointing id2label label2id length_penalty max_length min_length name_or_path
no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences prefix problem_type
remove_invalid_values repetition_penalty return_dict_in_generate sep_token_id suppress_tokens task_specific_params
temperature tf_legacy_loss tokenizer_class top_k top_p transformers_version typical_p unk_token_id unsloth_fixed
unsloth_version use_bfloat16 use_cache
""")
)
# Numbers that no class declares: transformers keeps them with the rotary settings.
NUMBERS: Final = frozenset(
    {"partial_rotary_factor", "rope_local_base_freq", "rope_theta", "rotary_emb_base", "rotary_pct"}
)
_KINDS: Final[dict[type, str]] = {
    type(None): "null", bool: "bool", int: "int", float: "float", str: "text", list: "list", dict: "object",
}  # fmt: skip
_KIND_WORDS: Final = {
    "null": "null", "bool": "true or false", "int": "a whole number", "float": "a number", "text": "a text",
    "list": "a list", "object": "an object",
}  # fmt: skip
_DICTS: Final = frozenset(
    {"rope_parameters", "rope_scaling", "id2label", "label2id", "task_specific_params", "pruned_heads"}
)


@dataclass(frozen=True)
class ModelShape:
    """What config.json promises about the weights.

    Attributes:
        model_type: the architecture.
        dims: sizes, by the names of ``architectures``.
        flags: keys that are true or false, and ``tied``.
        kinds: the kind of every block, where blocks differ.
    """

    model_type: str
    dims: Mapping[str, int]
    flags: Mapping[str, bool]
    kinds: tuple[str, ...] = ()


@cache
def known_keys() -> dict[str, Any]:
    """The committed lists of keys (``config_keys.json``)."""
    text = (package_files("models_store.verification") / "config_keys.json").read_text(encoding="utf-8")
    lists: dict[str, Any] = json.loads(text)
    return lists


def check_config(config: Mapping[str, Any]) -> ModelShape:
    """Check config.json and read from it what the weights must look like.

    Raises:
        ModelRejected: the architecture or a key is not on the list, or a value is not one that it can have.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        given = "not given" if model_type is None else f"'{shown(str(model_type))}'"
        raise ModelRejected(
            f"config.json: model_type is {given}, which is not on the list",
            hint=f"supported are {', '.join(ARCHITECTURES)}",
        )
    known = known_keys()["types"][model_type]
    for key in sorted(config.keys() - set(known["keys"])):
        raise ModelRejected(f"config.json: the key '{shown(key)}' is not on the list", hint=_hint_for(key))
    for key, value in config.items():
        _check_value(key, value)
        if not is_of_kind(known, key, value):
            _wrong(key, f"must be {' or '.join(_KIND_WORDS[kind] for kind in taken_kinds(known, key))}")
    architectures = config.get("architectures")
    if architectures is not None and (
        not isinstance(architectures, list) or not all(name in known["architectures"] for name in architectures)
    ):
        _wrong("architectures", f'must be ["{known["architectures"][0]}"]')
    shape = _shape(model_type, config, known["defaults"])
    _check_agreement(config, shape)
    return shape


def fits(key: str, value: Any) -> bool:
    """Whether a value is of a kind that ``check_config`` takes for this key."""
    try:
        _check_value(key, value)
    except ModelRejected:
        return False
    return True


def taken_kinds(known: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The kinds of values that transformers takes for a key of an architecture."""
    if key in NUMBERS:
        return ("null", "int", "float")
    kinds: str | None = known["kinds"].get(key)
    return tuple(_KIND_WORDS) if kinds is None else tuple(kinds.split())


def kind_of(value: Any) -> str:
    """The kind of a value that JSON can hold."""
    return _KINDS[type(value)]


def is_of_kind(known: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether transformers takes a value of this kind for a key of an architecture."""
    return kind_of(value) in taken_kinds(known, key)


def _hint_for(key: str) -> str:
    if key in ("quantization_config", "compression_config", "quantization"):
        return "dequantise the model first, or audit the one that it was quantised from"
    return "save the model with save_pretrained, without this key"


def _wrong(key: str, what: str) -> None:
    raise ModelRejected(f"config.json: '{shown(key)}' {what}", hint="correct the value in config.json")


def _plain(value: Any) -> bool:
    return (
        value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _MAX_TEXT)
    )


def _check_value(key: str, value: Any) -> None:
    if key in _FIXED:
        if not any(value == allowed and type(value) is type(allowed) for allowed in _FIXED[key]):
            _wrong(key, f"must be {' or '.join(json.dumps(allowed) for allowed in _FIXED[key])}")
    elif key in _ACTIVATION_KEYS:
        if value is not None and value not in known_keys()["activations"]:
            _wrong(key, "is not an activation function that transformers has")
    elif key in FLAGS:
        if not isinstance(value, bool):
            _wrong(key, "must be true or false")
    elif key in ("rope_parameters", "rope_scaling"):
        _check_rotary(key, value)
    elif isinstance(value, dict):
        if key not in _DICTS or len(value) > _MAX_ITEMS or not all(_plain_tree(item) for item in value.values()):
            _wrong(key, "holds a structure that does not belong there")
    elif isinstance(value, list):
        if len(value) > _MAX_ITEMS or not all(_plain_list(item) for item in value):
            _wrong(key, "holds a list that does not belong there")
    elif not _plain(value):
        _wrong(key, f"is longer than {_MAX_TEXT} characters")
    elif key == "tokenizer_class" and value is not None and (not isinstance(value, str) or not _WORD.fullmatch(value)):
        _wrong(key, "is no name of a class")


def _plain_list(value: Any, depth: int = 2) -> bool:
    """Whether a list's item is plain, or a short list of such: GPT-Neo says so which blocks attend to what."""
    if not isinstance(value, list):
        return _plain(value)
    return depth > 0 and len(value) <= _MAX_ITEMS and all(_plain_list(item, depth - 1) for item in value)


def _plain_tree(value: Any) -> bool:
    return _plain(value) or (isinstance(value, dict) and len(value) < 100 and all(map(_plain, value.values())))


def _check_rotary(key: str, value: Any, *, nested: bool = False) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        _wrong(key, "must be an object")
    for name, item in value.items():
        if name not in ROTARY_KEYS:
            _wrong(f"{key}.{name}", "is not a key of rotary embeddings")
        if name in ("rope_type", "type"):
            if not (isinstance(item, str) and item in ROTARY_TYPES):
                _wrong(f"{key}.{name}", f"is not one of {', '.join(sorted(ROTARY_TYPES))}")
            continue
        if name in _LAYER_TYPES and not nested:
            _check_rotary(f"{key}.{name}", item, nested=True)
        elif isinstance(item, list):
            if len(item) > _MAX_ITEMS or not all(type(factor) in (int, float) for factor in item):
                _wrong(f"{key}.{name}", "must be a list of numbers")
        elif not (item is None or isinstance(item, bool | int | float)):
            _wrong(f"{key}.{name}", "must be a number")
    kind = value.get("rope_type", value.get("type", "default"))
    for name in _ROTARY_NEEDS[kind]:
        if value.get(name) is None:
            _wrong(f"{key}.{name}", f"is not there, which '{kind}' needs")


def _shape(model_type: str, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> ModelShape:
    architecture, known = ARCHITECTURES[model_type], known_keys()["types"][model_type]

    def read(key: str) -> Any:
        return config.get(key, defaults.get(key))

    def size(name: str, otherwise: int | None = None) -> int:
        key = known["own_names"].get(name, name)
        if name == "intermediate_size" and key not in known["keys"]:
            key = "n_inner"
        value = read(key)
        value = otherwise if value is None else value
        most = _BOUNDS.get(name, _MOST)
        if type(value) is not int or not 1 <= value <= most:
            _wrong(key, f"must be a whole number from 1 to {most}")
        return int(value)

    hidden, heads, layers = size("hidden_size"), size("num_attention_heads"), size("num_hidden_layers")
    grouped = size("num_key_value_heads", heads)
    derived = "head_dim" not in known["keys"] or read("head_dim") is None
    if derived and hidden % heads:
        _wrong(known["own_names"].get("num_attention_heads", "num_attention_heads"), "does not divide the hidden size")
    if heads % grouped:
        _wrong("num_key_value_heads", "does not divide num_attention_heads")
    head = hidden // heads if derived else size("head_dim")
    factor = architecture.inner_factor
    inner = size("intermediate_size", None if factor is None else factor * hidden)
    dims = {
        "hidden": hidden,
        "layers": layers,
        "heads": heads,
        "key_value_heads": grouped,
        "head": head,
        "query": heads * head,
        "key_value": grouped * head,
        "query_key_value": (heads + 2 * grouped) * head,
        "inner": inner,
        "two_inner": 2 * inner,
        "three_hidden": 3 * hidden,
        "vocab": size("vocab_size"),
        "positions": size("max_position_embeddings"),
    }
    dims |= {name: size(key) for name, key in architecture.sizes.items()}
    if architecture.derive is not None:
        dims |= architecture.derive(read, dims)
    kinds = () if architecture.kinds is None else architecture.kinds(read, layers)
    if architecture.kinds is not None and len(kinds) != layers:
        _wrong("layer_types", f"must name the kind of each of the {layers} layers")
    flags = {key: bool(read(key)) for key in FLAGS}
    return ModelShape(model_type, dims, {**flags, "tied": flags["tie_word_embeddings"]}, kinds)


def _check_agreement(config: Mapping[str, Any], shape: ModelShape) -> None:
    layers, vocab = shape.dims["layers"], shape.dims["vocab"]
    kinds = config.get("layer_types")
    if kinds is not None and (
        not isinstance(kinds, list)
        or len(kinds) != layers
        or not all(isinstance(kind, str) and kind in _LAYER_TYPES for kind in kinds)
    ):
        _wrong("layer_types", f"must name {' or '.join(sorted(_LAYER_TYPES))} for each of the {layers} layers")
    pad = config.get("pad_token_id")
    if pad is not None and (type(pad) is not int or not -vocab <= pad < vocab):
        _wrong("pad_token_id", "must be a token of the vocabulary")
