"""Reading checkpoints, adapters and tokenizers; what transformers and PEFT raise becomes an error of the audit."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from audit.errors import IdenticalModels, ModelRejected, ModelsIncompatible
from audit.translate import is_out_of_memory


def load_tokenizer(folder: Path) -> Any:
    """The checkpoint's fast tokenizer.

    Raises:
        ModelRejected: there is none.
    """
    try:
        with panics_as_errors():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelRejected(
            f"the tokenizer cannot be read: {type(error).__name__}",
            hint="save it again with tokenizer.save_pretrained(folder)",
        ) from error
    if not tokenizer.is_fast:
        raise ModelRejected(
            "the checkpoint has no fast tokenizer (tokenizer.json)",
            hint="save it with AutoTokenizer.from_pretrained(…, use_fast=True).save_pretrained(folder)",
        )
    return tokenizer


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise ``RuntimeError`` where the tokenizers library panics, which is no ``Exception`` and has no public class."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError("the tokenizers library panicked") from error


def load_checkpoint(folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Load a full checkpoint for inference.

    Raises:
        ModelRejected: transformers cannot read it, a weight is missing, infinite or NaN.
    """
    loader: Any = AutoModelForCausalLM
    try:
        model, loading = loader.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # a stranger's configuration makes transformers raise anything
        if is_out_of_memory(error):
            raise
        raise ModelRejected(
            f"the checkpoint cannot be loaded: {type(error).__name__}",
            hint="save the model again with model.save_pretrained(folder)",
        ) from error
    if loading["missing_keys"]:  # transformers fills them with random numbers
        raise ModelRejected(
            f"the checkpoint has no weights for '{min(loading['missing_keys'])}'",
            hint="save the model again with model.save_pretrained(folder)",
        )
    _check_finite(model)
    moved: nn.Module = model.to(device)
    return moved.eval().requires_grad_(False)


def attach_adapter(base: nn.Module, folder: Path) -> nn.Module:
    """Put a LoRA adapter on a loaded base, which is changed.

    Raises:
        ModelsIncompatible: its modules or shapes are not this base's.
        IdenticalModels: it changes nothing.
        ModelRejected: PEFT cannot read it, or a weight is infinite or NaN.
    """
    from peft import PeftModel  # takes a second to import, and full checkpoints do without it

    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelRejected(
            "the adapter has no adapter_model.safetensors",
            hint="save it as safetensors: model.save_pretrained(folder, safe_serialization=True)",
        )
    try:
        with warnings.catch_warnings():
            # PEFT reads an attribute that transformers has renamed; nothing that an audit's reader could act on.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", message="Found missing adapter keys")  # refused below
            model = PeftModel.from_pretrained(base, str(folder), is_trainable=False, local_files_only=True)
    except (ValueError, KeyError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise ModelsIncompatible(
            "the adapter does not fit this base: its modules or shapes differ",
            hint="set base_model to the model that the adapter was trained on",
        ) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelRejected(
            f"the adapter cannot be loaded: {type(error).__name__}",
            hint="save the model again with model.save_pretrained(folder)",
        ) from error
    _check_adapter_keys(model, folder / "adapter_model.safetensors")
    adapter = {name: value for name, value in model.named_parameters() if "lora_" in name}
    _check_finite(model, only="lora_")
    if not any(bool(value.any()) for name, value in adapter.items() if "lora_B" in name or "lora_embedding_B" in name):
        raise IdenticalModels(
            "the adapter changes nothing: all its B matrices are zero",
            hint="check that the adapter was saved after training",
        )
    return model.eval().requires_grad_(False)


def _check_adapter_keys(model: nn.Module, weights: Path) -> None:
    """Refuse an adapter whose matrices are not exactly those that its config puts on this base.

    PEFT only warns: what is missing would stay random, what finds no place (more blocks than the base has) is dropped.
    """
    from peft import get_peft_model_state_dict

    with safe_open(weights, framework="pt") as file:
        given = {name for name in file.keys() if "lora_" in name}  # noqa: SIM118 (a handle, not a dict)
    wanted = {name for name in get_peft_model_state_dict(model, save_embedding_layers=False) if "lora_" in name}
    if given != wanted:
        name = min(given ^ wanted)
        which = "the adapter has no weights for" if name in wanted else "this base has no place for the adapter's"
        raise ModelsIncompatible(
            f"{which} '{name}'", hint="set base_model to the model that the adapter was trained on"
        )


def _check_finite(model: nn.Module, only: str = "") -> None:
    for name, value in model.named_parameters():
        if only in name and not bool(torch.isfinite(value.detach()).all()):
            raise ModelRejected(
                f"the weights of '{name}' hold NaN or infinity",
                hint="the checkpoint is damaged: save or download it again",
            )
