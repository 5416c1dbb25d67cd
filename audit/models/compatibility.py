"""Whether a fine-tuned model fits its base: shapes, tokenizers and weights."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as TokenizerFile
from torch import nn
from transformers import AutoConfig

from audit.errors import IdenticalModels, ModelRejected, ModelsIncompatible
from audit.models.loading import panics_as_errors
from audit.models.lora import FusedLora


def check_shapes(base_dir: Path, tuned_dir: Path) -> None:
    """Compare the configs before the second model is loaded.

    Raises:
        ModelsIncompatible: a size or the architecture differs.
    """
    keys = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    configs = [AutoConfig.from_pretrained(folder, local_files_only=True) for folder in (base_dir, tuned_dir)]
    for key in keys:
        values = [getattr(config.get_text_config(), key, None) for config in configs]
        if values[0] != values[1]:
            raise ModelsIncompatible(
                f"'{key}' differs: {values[0]} in the base, {values[1]} in the fine-tuned model",
                hint="set base_model to the model that this checkpoint was fine-tuned from",
            )


class TokenizerComparison:
    """Both tokenizers, where the fine-tuned checkpoint brings one of its own.

    The audit reads prompts with the base's. What counts is that the other gives the same ids for the same prompts.

    Raises:
        ModelRejected: a ``tokenizer.json`` is missing or unreadable.
    """

    def __init__(self, base_dir: Path, tuned_dir: Path) -> None:
        files = [folder / "tokenizer.json" for folder in (base_dir, tuned_dir)]
        if not all(file.is_file() for file in files):
            raise ModelRejected(
                "the base has no tokenizer.json",
                hint="save its fast tokenizer with it: AutoTokenizer.from_pretrained(…).save_pretrained(folder)",
            )
        try:
            with panics_as_errors():
                self._both = [TokenizerFile.from_file(str(file)) for file in files]
                # Read and written by the same library: older ones wrote the same merges in another form.
                contents = [json.loads(tokenizer.to_str()) for tokenizer in self._both]
        except Exception as error:
            raise ModelRejected(
                "a tokenizer.json cannot be read", hint="save it again with tokenizer.save_pretrained(folder)"
            ) from error
        parts = ("model", "added_tokens", "pre_tokenizer", "normalizer")
        self.differences = tuple(part for part in parts if contents[0].get(part) != contents[1].get(part))

    def check(self, texts: Iterable[str]) -> None:
        """Compare what both make of the audit's own texts.

        Raises:
            ModelsIncompatible: they give different ids.
        """
        if not self.differences:
            return
        for text in texts:
            ours, others = (tokenizer.encode(text, add_special_tokens=False).ids for tokenizer in self._both)
            if ours != others:
                raise ModelsIncompatible(
                    f"the tokenizers differ in '{self.differences[0]}', and give different tokens for {text[:40]!a}",
                    hint="both models must read the same tokens: save the base's tokenizer with the fine-tuned model",
                )


def share_vocabulary(base: nn.Module, tuned: nn.Module, highest: int) -> int | None:
    """Cut embeddings and heads to the rows that both models have; padding and added tokens have no counterpart.

    Args:
        base: is changed, as is the other.
        tuned: the fine-tuned model.
        highest: the highest id that the base's tokenizer gives.

    Returns:
        How many rows are left, or None where both have the same.

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


def check_weights_differ(base: nn.Module, tuned: nn.Module) -> None:
    """Compare the weights of two loaded models.

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
    if any(not torch.equal(value, others[name]) for name, value in ours.items()):
        return
    raise IdenticalModels(
        "base and fine-tuned model have the same weights",
        hint="check that the fine-tuned weights were saved and that fine_tuned names that checkpoint",
    )
