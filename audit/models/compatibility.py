"""Whether a fine-tuned model fits its base: shapes, tokenizers and weights."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer as TokenizerFile
from torch import nn
from transformers import AutoConfig

from audit.errors import IdenticalModels, ModelRejected, ModelsIncompatible
from audit.models.loading import panics_as_errors


def check_shapes(base_dir: Path, tuned_dir: Path) -> None:
    """Compare the configs before the second model is loaded.

    Raises:
        ModelsIncompatible: a size or the architecture differs.
    """
    keys = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    configs = [AutoConfig.from_pretrained(folder, local_files_only=True) for folder in (base_dir, tuned_dir)]
    for key in keys:
        values = [getattr(config.get_text_config(), key, None) for config in configs]
        if values[0] != values[1]:
            raise ModelsIncompatible(
                f"'{key}' differs: {values[0]} in the base, {values[1]} in the fine-tuned model",
                hint="set base_model to the model that this checkpoint was fine-tuned from",
            )


def check_tokenizers(base_dir: Path, tuned_dir: Path) -> None:
    """Refuse a fine-tuned checkpoint that brings another vocabulary.

    Raises:
        ModelsIncompatible: the tokenizers differ in what decides on token ids.
        ModelRejected: a ``tokenizer.json`` is missing or unreadable.
    """
    files = [folder / "tokenizer.json" for folder in (base_dir, tuned_dir)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise ModelRejected(
            "the base has no tokenizer.json",
            hint="save its fast tokenizer with it: AutoTokenizer.from_pretrained(…).save_pretrained(folder)",
        )
    try:  # read and written by the same library: older ones wrote the same merges in another form
        with panics_as_errors():
            contents = [json.loads(TokenizerFile.from_file(str(file)).to_str()) for file in files]
    except Exception as error:
        raise ModelRejected(
            "a tokenizer.json cannot be read", hint="save it again with tokenizer.save_pretrained(folder)"
        ) from error
    for part in ("model", "added_tokens", "pre_tokenizer", "normalizer"):
        if contents[0].get(part) != contents[1].get(part):
            raise ModelsIncompatible(
                f"the tokenizers differ in '{part}'",
                hint="both models must read the same tokens: save the base's tokenizer with the fine-tuned model",
            )


def check_weights_differ(base: nn.Module, tuned: nn.Module) -> None:
    """Compare the weights of two loaded models.

    Raises:
        ModelsIncompatible: their parameters have other names or shapes.
        IdenticalModels: all are equal.
    """
    ours, others = dict(base.named_parameters()), dict(tuned.named_parameters())
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
