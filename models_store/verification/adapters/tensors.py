"""What each tensor of an adapter is, by its name: a factor, a row, a copy of the base's, or a trained weight."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from backdoor_audit.contract.checkpoint_files import ADAPTER_WEIGHTS
from models_store.errors import ModelRejected
from models_store.files import shown
from models_store.verification.adapters.config import MERGE, AdapterConfig
from models_store.verification.architectures import ARCHITECTURES
from models_store.verification.headers import FLOATS, Tensor
from models_store.verification.tensor_names import vocabulary_rows

PREFIX: Final = "base_model.model."
_NAME: Final = re.compile(r"[A-Za-z0-9_.]+")
# What PEFT puts after a module's name, and what we call it.
_PARTS: Final = (
    (".lora_A.weight", "A"),
    (".lora_B.weight", "B"),
    (".lora_B.bias", "bias"),
    (".lora_magnitude_vector.weight", "magnitude"),
    (".lora_magnitude_vector", "magnitude"),
    (".lora_embedding_A", "A"),
    (".lora_embedding_B", "B"),
)
_COPIES: Final = (".base_layer.weight", ".token_adapter.base_layer.weight")
_ROWS: Final = (".token_adapter.trainable_tokens_delta", ".token_adapter.trainable_tokens_delta.weight")
_TRAINED_BIAS: Final = ".base_layer.bias"
# A second copy of a trained module, which PEFT writes after a resize and does not read.
_UNREAD: Final = (".modules_to_save.", ".original_module.")


@dataclass
class AdapterTensors:
    """An adapter's tensors, sorted.

    Attributes:
        factors: of each adapted linear module: ``A``, ``B``, and ``bias`` and ``magnitude`` where it has them.
        embedding_factors: the same for each adapted embedding.
        rows: trained rows of an embedding, by its module.
        copies: copies of the base's own weights, by their module.
        trained: weights that take the place of the base's, by their full names in the base.
        modules: the modules that are trained whole, as ``modules_to_save`` named them.
        below: which of ``trained`` lie below an adapter, in its ``base_layer``.
    """

    factors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    embedding_factors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)
    copies: dict[str, Tensor] = field(default_factory=dict)
    trained: dict[str, Tensor] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    below: set[str] = field(default_factory=set)


def sort_tensors(tensors: Mapping[str, Tensor], known: AdapterConfig) -> AdapterTensors:
    """Say of each tensor what it is.

    Raises:
        ModelRejected: one is none of what the configuration allows, or not of floats. It is named.
    """
    found = AdapterTensors()
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            refuse(f"'{shown(name)}' is not a matrix of floats", "save the adapter again")
        inner = name.removeprefix(PREFIX)
        if inner == name or not _NAME.fullmatch(inner) or not _place(inner, tensor, known, found):
            refuse(
                f"'{shown(name)}' is not a LoRA factor of a targeted module, and {ADAPTER_WEIGHTS} may hold it only "
                "where modules_to_save or bias says that it was trained",
                MERGE,
            )
    for module in found.embedding_factors.keys() & found.factors.keys():
        found.embedding_factors[module] |= found.factors.pop(module)  # a magnitude, whose name does not tell
    _check_places(found)
    return found


def refuse(what: str, hint: str) -> None:
    """Refuse the weights.

    Raises:
        ModelRejected: always.
    """
    raise ModelRejected(f"{ADAPTER_WEIGHTS}: {what}", hint=hint)


def _place(inner: str, tensor: Tensor, known: AdapterConfig, found: AdapterTensors) -> bool:
    """Put one tensor where it belongs; whether it belongs anywhere."""
    for suffix, part in _PARTS:
        if inner.endswith(suffix):
            if (part == "magnitude" and not known.dora) or (part == "bias" and not known.factor_bias):
                return False
            if part in "AB" and len(tensor.shape) != 2:
                refuse(f"'{shown(inner)}' is not a matrix of floats", "save the adapter again")
            kind = found.embedding_factors if "embedding" in suffix else found.factors
            kind.setdefault(inner.removesuffix(suffix), {})[part] = tensor
            return True
    # The longer suffix first: one ends in the other.
    for group, suffixes in ((found.copies, reversed(_COPIES)), (found.rows, _ROWS)):
        for suffix in suffixes:
            if inner.endswith(suffix):
                group[inner.removesuffix(suffix)] = tensor
                return True
    if any(part in inner for part in _UNREAD):
        module = re.split("|".join(map(re.escape, _UNREAD)), inner)[0]
        return known.trained_module(module) == module
    return _place_trained(inner, tensor, known, found)


def _place_trained(inner: str, tensor: Tensor, known: AdapterConfig, found: AdapterTensors) -> bool:
    module = inner.rpartition(".")[0]
    whole = known.trained_module(module)
    if whole is not None:
        found.modules.add(whole)
        found.trained[inner] = tensor
        return True
    if inner.endswith(_TRAINED_BIAS) and known.bias != "none":
        name = f"{inner.removesuffix(_TRAINED_BIAS)}.bias"
        found.trained[name] = tensor
        found.below.add(name)
        return True
    # PEFT adds embedding and head by itself where the vocabulary was resized.
    if (inner.endswith(".bias") and known.bias == "all") or _last(inner) in _vocabulary():
        found.trained[inner] = tensor
        return True
    return False


def _check_places(found: AdapterTensors) -> None:
    """Refuse trained weights that PEFT would pass over: those of an adapted module lie in its ``base_layer``."""
    adapted = found.factors.keys() | found.embedding_factors.keys() | found.rows.keys()
    for name in sorted(found.trained):
        if (name.rpartition(".")[0] in adapted) != (name in found.below):
            refuse(f"'{shown(name)}' is not where PEFT looks for it", "save the adapter with a current PEFT")


def _last(name: str) -> str:
    return ".".join(name.split(".")[-2:])


@cache
def _vocabulary() -> frozenset[str]:
    """Names, without their folders, of what has a row for each token in any architecture."""
    return frozenset(_last(name) for model_type in ARCHITECTURES for name in vocabulary_rows(model_type))
