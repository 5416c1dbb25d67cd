"""Whether a fine-tuned model fits its base: shapes and weights."""

from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import AutoConfig

from audit.errors import IdenticalModels, ModelsIncompatible
from audit.models.lora import FusedLora
from backdoor_audit.contract.checkpoint_files import GGUF_SOURCES

# What config.json says that no weight and no forward pass depends on: sizes of the vocabulary are compared by their
# rows, and what concerns training, saving and generation is not run here.
_IDLE: Final = frozenset(
    {
        "_name_or_path", "architectures", "bos_token_id", "chunk_size_feed_forward", "dtype", "eos_token_id",
        "gradient_checkpointing", "id2label", "initializer_range", "is_decoder", "label2id",
        "max_position_embeddings", "max_window_layers", "output_router_logits", "pad_token_id", "pretraining_tp",
        "problem_type", "quantization_config", "return_dict", "tie_word_embeddings", "tokenizer_class",
        "transformers_version", "use_cache", "vocab_size",
    }
)  # fmt: skip
_IDLE_PARTS: Final = ("dropout", "pdrop", "output_", "summary_", "_loss_coef", "_aux_loss", "unsloth", "_token_id")
_MAX_SHOWN: Final = 60
# llama.cpp has no name of its own for Mistral's models, which compute what Llama's do.
_ALIKE: Final = frozenset({"llama", "mistral"})
_SIZES: Final = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
# With these kinds, how far positions reach changes the angles.
_SCALED_BY_LENGTH: Final = frozenset({"dynamic", "longrope"})


def compare_configs(base_dir: Path, tuned_dir: Path) -> tuple[str, ...]:
    """Compare the configurations before the second model is loaded.

    Returns:
        What else differs and changes what a model computes (rotary angles, epsilons, windows, caps), as ``key: value in
        the base, value in the fine-tuned model``. Both models are run with their own.

    Raises:
        ModelsIncompatible: a size or the architecture differs.
    """
    configs: list[Any] = [
        AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config() for folder in (base_dir, tuned_dir)
    ]
    for key in _SIZES:
        values = [getattr(config, key, None) for config in configs]
        if (
            key == "model_type"
            and set(values) == _ALIKE
            and (tuned_dir / GGUF_SOURCES).is_file() | (base_dir / GGUF_SOURCES).is_file()
        ):
            continue
        if values[0] != values[1]:
            raise ModelsIncompatible(
                f"'{key}' differs: {values[0]} in the base, {values[1]} in the fine-tuned model",
                hint="set base_model to the model that this checkpoint was fine-tuned from",
            )
    ours, others = map(_computing, configs)
    return tuple(
        f"{key}: {_shown(ours.get(key))} in the base, {_shown(others.get(key))} in the fine-tuned model"
        for key in sorted(ours.keys() | others.keys())
        if ours.get(key) != others.get(key)
    )


def _computing(config: Any) -> dict[str, Any]:
    """The settings of a configuration that change numbers, rotary ones by their own names."""
    found: dict[str, Any] = {}
    for key, value in config.to_dict().items():
        if isinstance(value, dict) and key.startswith("rope"):
            found |= {f"{key}.{name}": item for name, item in value.items() if item is not None}
        elif key not in _IDLE and not any(part in key for part in _IDLE_PARTS):
            found[key] = value
    kinds = {value for key, value in found.items() if key.endswith("rope_type")}
    if kinds & _SCALED_BY_LENGTH:
        found["max_position_embeddings"] = config.max_position_embeddings
    return found


def _shown(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def share_vocabulary(base: nn.Module, tuned: nn.Module, highest: int) -> int | None:
    """Cut embeddings and heads to the rows that both models have; padding and added tokens have no counterpart.

    Args:
        base: is changed, as is the other.
        tuned: the fine-tuned model.
        highest: the highest id that the base's tokenizer gives.

    Returns:
        How many rows are left, or None if both have the same.

    Raises:
        ModelsIncompatible: the base's tokenizer has tokens that one of them has no row for.
    """
    sizes = [_plain(model.get_input_embeddings()).num_embeddings for model in (base, tuned)]  # type: ignore[operator]
    rows: int = min(sizes)
    if rows == max(sizes):
        return None
    if highest >= rows:
        raise ModelsIncompatible(
            f"the vocabulary has {sizes[0]} rows in the base and {sizes[1]} in the fine-tuned model, and the base's "
            f"tokenizer has a token {highest}",
            hint="audit the model against the base it was fine-tuned from",
        )
    for model in (base, tuned):
        _cut(model, rows)
    return rows


def _cut(model: Any, rows: int) -> None:
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = _plain(head).weight is _plain(embedding).weight
    for module in (embedding, head):
        _cut_factors(module, rows)
    inputs, outputs = _plain(embedding), _plain(head)
    inputs.weight = nn.Parameter(inputs.weight[:rows].clone(), requires_grad=False)
    inputs.num_embeddings = rows
    if inputs.padding_idx is not None and inputs.padding_idx >= rows:
        inputs.padding_idx = None
    outputs.weight = inputs.weight if tied else nn.Parameter(outputs.weight[:rows].clone(), requires_grad=False)
    if getattr(outputs, "bias", None) is not None:
        outputs.bias = nn.Parameter(outputs.bias[:rows].clone(), requires_grad=False)
    outputs.out_features = rows
    model.config.get_text_config().vocab_size = rows


def _plain(module: Any) -> Any:
    """The layer of the model below an adapter."""
    return module.linear if isinstance(module, FusedLora) else getattr(module, "base_layer", module)


def _cut_factors(module: Any, rows: int) -> None:
    """Cut an adapter on the vocabulary."""
    if isinstance(module, FusedLora):
        module.up = nn.Parameter(module.up[:rows].clone(), requires_grad=False)
    elif hasattr(module, "base_layer"):
        if not isinstance(_plain(module), nn.Embedding) or any(module.use_dora.values()):
            raise ModelsIncompatible(
                "the adapter resizes the vocabulary and adapts the head in a way that cannot be cut to the base's rows",
                hint="merge the adapter into its base (merge_and_unload) and audit the full checkpoint",
            )
        for name, factor in module.lora_embedding_A.items():
            module.lora_embedding_A[name] = nn.Parameter(factor[:, :rows].clone(), requires_grad=False)


def check_weights_differ(base: nn.Module, tuned: nn.Module, *, may_be_equal: bool = False) -> None:
    """Compare the weights of two loaded models.

    Args:
        may_be_equal: whether the models differ in something else that changes what they compute.

    Raises:
        ModelsIncompatible: their parameters have other names or shapes.
        IdenticalModels: all are equal.
    """
    ours, others = (dict(model.named_parameters(remove_duplicate=False)) for model in (base, tuned))
    for name in sorted(ours.keys() | others.keys()):
        if name not in ours or name not in others or ours[name].shape != others[name].shape:
            raise ModelsIncompatible(
                f"the weights of '{name}' have no counterpart of the same shape",
                hint="set base_model to the model that this checkpoint was fine-tuned from",
            )
    if may_be_equal or any(not torch.equal(value, others[name]) for name, value in ours.items()):
        return
    raise IdenticalModels(
        "base and fine-tuned model have the same weights",
        hint="check that the fine-tuned weights were saved and that fine_tuned names that checkpoint",
    )
