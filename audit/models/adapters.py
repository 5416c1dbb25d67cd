"""LoRA adapters on a loaded base; what PEFT raises becomes an error of the audit.

An adapter of factors alone shares the base's weights: switched off, the model is the base, exactly. One that brings
trained weights of its own (``modules_to_save``, biases, a resized vocabulary) is put on a second copy of the base and
stays on; nothing is merged, so nothing is rounded (decision 0161).
"""

import copy
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import nn

from audit.errors import IdenticalModels, ModelRejected, ModelsIncompatible
from audit.models.loading import TEXT_PART, check_finite
from audit.models.lora import Switch, fuse
from audit.translate import is_out_of_memory

WEIGHTS: Final = "adapter_model.safetensors"
_PREFIX: Final = "base_model.model."
_OTHER_BASE: Final = "set base_model to the model that the adapter was trained on"
# What PEFT adds to the base and can take away again.
_ADDED: Final = ("lora_", "trainable_tokens_delta")
_COPY: Final = ".base_layer.weight"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a LoRA adapter."""
    return (folder / "adapter_config.json").is_file()


def brings_weights(folder: Path, base: nn.Module) -> bool:
    """Whether an adapter holds more than what can be switched off: trained weights, or another vocabulary."""
    return vocabulary_rows(folder, base) is not None or any(
        not name.endswith(_COPY) and not any(part in name for part in _ADDED) for name in _shapes(folder)
    )


def vocabulary_rows(folder: Path, base: nn.Module) -> int | None:
    """Rows of the vocabulary that the adapter was trained with; None if they are the base's."""
    model: Any = base
    ends = {
        f"{name}{part}"
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
        for name, found in base.named_modules(remove_duplicate=False)
        if found is module
        for part in (".weight", _COPY, f".token_adapter{_COPY}")
    }
    given = {shape[0] for name, shape in _shapes(folder).items() if name.removeprefix(_PREFIX) in ends}
    rows = given - {model.get_input_embeddings().num_embeddings}
    return min(rows, default=None)


def attach(base: nn.Module, folder: Path, switch: Switch, *, may_be_equal: bool = False) -> nn.Module:
    """Put an adapter of factors on a loaded base, which is changed; layers of PEFT's that are plain are replaced.

    Args:
        base: a loaded model.
        folder: the adapter.
        switch: what will switch the factors off.
        may_be_equal: whether the models differ in something else that changes what they are asked.

    Returns:
        PEFT's model.

    Raises:
        ModelsIncompatible: its modules or shapes are not this base's.
        IdenticalModels: it changes nothing.
        ModelRejected: PEFT cannot read it, or a weight is infinite or NaN.
    """
    model = _read(base, folder)
    if not may_be_equal and not _adds(model):
        raise _changes_nothing("all its B matrices are zero")
    switch.peft = fuse(model, switch)
    return model.eval().requires_grad_(False)


def attach_to_copy(base: nn.Module, folder: Path, *, may_be_equal: bool = False) -> nn.Module:
    """Put an adapter that brings trained weights on a copy of a loaded base.

    Args:
        base: a loaded model.
        folder: the adapter.
        may_be_equal: as for ``attach``.

    Returns:
        The fine-tuned model, without PEFT's frame.

    Raises:
        ModelsIncompatible, IdenticalModels, ModelRejected: as ``attach``.
    """
    tuned: Any = copy.deepcopy(base)
    rows = vocabulary_rows(folder, base)
    if rows is not None:
        tuned.resize_token_embeddings(rows, mean_resizing=False)
    model: Any = _read(tuned, folder)
    tuned = model.get_base_model()
    adds = _adds(model)
    _take_out(tuned, next(base.parameters()).dtype)
    if not may_be_equal and not adds and not _differ(base, tuned):
        raise _changes_nothing("all its B matrices are zero, and its other weights are the base's")
    fuse(tuned, Switch())
    return tuned.eval().requires_grad_(False)


def _read(base: nn.Module, folder: Path) -> nn.Module:
    from peft import PeftModel  # takes a second to import, and full checkpoints do without it

    try:
        with warnings.catch_warnings():
            # PEFT reads an attribute that transformers has renamed; nothing that an audit's reader could act on.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", message="Found missing adapter keys")  # refused below
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")  # nothing is merged here
            model = PeftModel.from_pretrained(
                base, str(folder), is_trainable=False, local_files_only=True, key_mapping=TEXT_PART
            )
    except (ValueError, KeyError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise ModelsIncompatible(
            "the adapter does not fit this base: its modules or shapes differ", hint=_OTHER_BASE
        ) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise _unreadable(error) from error
    _check_keys(model, folder)
    check_finite(model)
    return model


def _check_keys(model: nn.Module, folder: Path) -> None:
    """Refuse an adapter whose tensors are not exactly those that its config puts on this base.

    PEFT only warns: what is missing would stay random, what finds no place (more blocks than the base has) is dropped.
    """
    from peft import get_peft_model_state_dict

    given = {name for name in _shapes(folder) if not name.endswith(_COPY) and not _is_second_copy(name)}
    places = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    saved = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    missing = {name for name in saved - given if "lora_" in name}
    # After a resize PEFT writes the rows of a tied head a second time, and does not read them.
    foreign = {name for name in given - saved - places if "trainable_tokens_delta" not in name}
    if missing or foreign:
        name = min(missing | foreign)
        which = "the adapter has no weights for" if name in missing else "this base has no place for the adapter's"
        raise ModelsIncompatible(f"{which} '{name}'", hint=_OTHER_BASE)


def _is_second_copy(name: str) -> bool:
    """Whether PEFT wrote a trained module twice, as it does after a resize."""
    return ".modules_to_save." in name or ".original_module." in name


def _adds(model: nn.Module) -> bool:
    """Whether any factor, bias of a factor or row of the embedding is not zero."""
    ends = ("lora_B", "lora_embedding_B", "trainable_tokens_delta")
    return any(bool(value.any()) for name, value in model.named_parameters() if any(end in name for end in ends))


def _take_out(model: nn.Module, dtype: torch.dtype) -> None:
    """Put what was trained in the place of PEFT's wrappers around it and the base's own."""
    from peft.utils.other import ModulesToSaveWrapper, TrainableTokensWrapper

    for name, module in [*model.named_modules(remove_duplicate=False)]:
        wrapper: Any = module
        if isinstance(wrapper, ModulesToSaveWrapper):
            trained = wrapper.modules_to_save[wrapper.active_adapters[0]].to(dtype)
        elif isinstance(wrapper, TrainableTokensWrapper):
            layer = wrapper.token_adapter
            # Through a copy: a tied head that has no such rows keeps the weight.
            trained = copy.copy(layer.base_layer)
            trained._parameters = {**layer.base_layer._parameters}
            trained.weight = nn.Parameter(layer.get_merged_weights(layer.active_adapters).to(dtype))
        else:
            continue
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, trained)


def _differ(base: nn.Module, tuned: nn.Module) -> bool:
    """Whether any weight is not the base's, on the rows that both have."""
    ours = dict(base.named_parameters(remove_duplicate=False))
    return any(
        not torch.equal(ours[name][: len(value)], value[: len(ours[name])]) for name, value in _plain(tuned, ours)
    )


def _plain(tuned: nn.Module, ours: dict[str, nn.Parameter]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in tuned.named_parameters(remove_duplicate=False):
        own = name.replace(".base_layer.", ".").replace(".token_adapter.", ".")
        if own in ours:
            yield own, value


def _unreadable(error: Exception) -> ModelRejected:
    return ModelRejected(
        f"the adapter cannot be loaded: {type(error).__name__}",
        hint="save the model again with model.save_pretrained(folder)",
    )


def _changes_nothing(why: str) -> IdenticalModels:
    return IdenticalModels(
        f"the adapter changes nothing: {why}", hint="check that the adapter was saved after training"
    )


def _plain_name(name: str) -> str:
    inner = name.removeprefix(_PREFIX)
    for pattern, plain in TEXT_PART.items():
        inner = re.sub(pattern, plain, inner)
    return f"{_PREFIX}{inner}" if name.startswith(_PREFIX) else name


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of an adapter's tensors, by name; those of a text part by the names of a text model.

    Raises:
        ModelRejected: the file is missing or damaged.
    """
    if not (folder / WEIGHTS).is_file():
        raise ModelRejected(
            f"the adapter has no {WEIGHTS}",
            hint="save it as safetensors: model.save_pretrained(folder, safe_serialization=True)",
        )
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            return {_plain_name(name): tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise _unreadable(error) from error
