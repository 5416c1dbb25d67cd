"""Writes ``config_keys.json``: the keys that transformers' own configuration classes know.

The list is generated so that it follows transformers, and committed so that nothing in this room imports it. Run with
``python -m models_store.verification.generate_config_keys`` after an upgrade; a test fails while the file is behind.
"""

import importlib
import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from models_store.verification.architectures import ARCHITECTURES, Architecture

KEYS_FILE: Final = Path(__file__).with_name("config_keys.json")


def _words(text: str) -> list[str]:
    return text.split()


# Keys that configurations written by earlier releases hold. Each is inert, or its value is checked in config_rules.py.
_OLDER_CONFIG_KEYS: Final = _words("""
_attn_implementation_autoset _commit_hash _model_name_or_path _name_or_path add_cross_attention bad_words_ids
begin_suppress_tokens bos_token_id cache_implementation chunk_size_feed_forward cross_attention_hidden_size
decoder_start_token_id diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size eos_token_id
exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing
is_decoder is_encoder_decoder length_penalty max_length min_length name_or_path no_repeat_ngram_size num_beam_groups
num_beams num_labels num_return_sequences output_attentions output_hidden_states output_scores pad_token_id prefix
problem_type pruned_heads remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id
suppress_tokens task_specific_params temperature tf_legacy_loss tie_encoder_decoder tie_word_embeddings tokenizer_class
top_k top_p torch_dtype torchscript transformers_version typical_p unk_token_id unsloth_fixed unsloth_version
use_bfloat16 use_cache
""")
_OLDER_ROTARY_KEYS: Final = ["rope_scaling", "rope_theta", "partial_rotary_factor"]
_OLDER_GENERATION_KEYS: Final = _words("""
_from_model_config bos_token_id decoder_start_token_id do_sample eos_token_id forced_bos_token_id
forced_eos_token_id is_assistant max_length num_assistant_tokens
num_assistant_tokens_schedule pad_token_id return_legacy_cache suppress_tokens transformers_version
use_cache
""")
# Sizes that some architectures have under names of their own.
_SIZES: Final = frozenset(
    _words("""
    hidden_size intermediate_size max_position_embeddings num_attention_heads num_experts num_hidden_layers
    num_key_value_heads vocab_size
    """)
)
# Values of each kind, as JSON has them.
_EXAMPLES: Final[dict[str, tuple[Any, ...]]] = {
    "null": (None,), "bool": (True,), "int": (1,), "float": (0.5,), "text": ("a",), "list": ([1], ["a"]),
    "object": ({},),
}  # fmt: skip
_NEVER: Final = frozenset(
    {
        "auto_map",
        "custom_code",
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "_experts_implementation",
        "_experts_implementation_internal",
        "experts_implementation",
        "per_layer_config",
        "quantization_config",
        "transformers_weights",
    }
)


def build() -> dict[str, Any]:
    """Ask the installed transformers for its configurations' keys, scalar defaults, and model classes."""
    import transformers
    from transformers.activations import ACT2FN
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_MAPPING_NAMES

    generation: Any = transformers.GenerationConfig
    types: dict[str, Any] = {}
    for model_type, architecture in sorted(ARCHITECTURES.items()):
        configuration: Any = CONFIG_MAPPING[model_type]
        written = configuration().to_dict()
        # What the class declares, not what an instance derives from it: a derived head_dim belongs to other sizes.
        declared = {key: field.default for key, field in configuration.__dataclass_fields__.items() if key in written}
        keys = {*written, *_OLDER_CONFIG_KEYS, *architecture.older_keys}
        if _reads_head_dim(configuration, architecture):
            keys.add("head_dim")
        if "rope_parameters" in written:
            keys.update(_OLDER_ROTARY_KEYS)
        types[model_type] = {
            "architectures": [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type], MODEL_MAPPING_NAMES[model_type]],
            "defaults": {
                key: value
                for key, value in sorted(declared.items())
                if isinstance(value, bool | int | float | str) and key != "transformers_version"
            },
            "keys": _sorted(keys),
            "kinds": _kinds(configuration, sorted(set(written) - _NEVER)),
            "own_names": {
                ours: theirs for ours, theirs in sorted(configuration.attribute_map.items()) if ours in _SIZES
            },
        }
    return {
        "transformers": transformers.__version__,
        "activations": _sorted(ACT2FN),
        "generation": _sorted([*generation().to_dict(), *_OLDER_GENERATION_KEYS]),
        "types": types,
    }


def _kinds(configuration: Any, keys: Iterable[str]) -> dict[str, str]:
    """Which kinds of values transformers takes for a key, where it does not take all of them."""
    validators = configuration.__validators__
    found: dict[str, str] = {}
    for key in keys:
        checks = validators.get(key, ())
        taken = [kind for kind, values in _EXAMPLES.items() if any(_are_taken(checks, value) for value in values)]
        if len(taken) < len(_EXAMPLES):
            found[key] = " ".join(taken)
    return found


def _are_taken(checks: Iterable[Any], value: Any) -> bool:
    try:
        for check in checks:
            check(value)
    except (TypeError, ValueError):
        return False
    return True


def _reads_head_dim(configuration: Any, architecture: Architecture) -> bool:
    """Whether the model's code asks for a key that its configuration does not declare, and that sizes weights."""
    module = importlib.import_module(configuration.__module__.replace("configuration_", "modeling_"))
    sized = any("query" in shape for _, shape, _ in architecture.block)
    return sized and 'getattr(config, "head_dim"' in inspect.getsource(module)


def rendered() -> str:
    """The file's text, as it should be for the installed transformers."""
    return json.dumps(build(), indent=1, sort_keys=True) + "\n"


def _sorted(keys: Iterable[str]) -> list[str]:
    return sorted(set(keys) - _NEVER)


if __name__ == "__main__":
    KEYS_FILE.write_text(rendered(), encoding="utf-8")
