"""Reading checkpoints; what transformers raises becomes an error of the audit."""

import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from audit.errors import ModelRejected
from audit.models.dequantise import gguf_weights
from audit.models.quantised import quantised_weights
from audit.translate import is_out_of_memory
from backdoor_audit.contract.checkpoint_files import GGUF_SOURCES, QUANTISED_SOURCES, TEMPLATE_FOLDER, is_template
from backdoor_audit.contract.checkpoint_settings import SETTINGS_FILES, CheckpointSettings


def load_settings(folder: Path) -> CheckpointSettings:
    """Chat templates, special tokens and generation settings of a verified folder, as its files say them."""
    documents = {
        name: json.loads((folder / name).read_text(encoding="utf-8"))
        for name in SETTINGS_FILES
        if (folder / name).is_file()
    }
    paths = [*folder.glob("*.jinja"), *folder.glob(f"{TEMPLATE_FOLDER}/*.jinja")]
    files = {str(path.relative_to(folder)): path.read_bytes().decode("utf-8") for path in paths}
    return CheckpointSettings.of(documents, {name: text for name, text in files.items() if is_template(name)})


# Names of the text part's tensors, as regular expressions, and what a text model calls them.
TEXT_PART: Final = {
    r"^(?:model\.)?language_model\.lm_head\.": "lm_head.",
    r"^(?:model\.)?language_model\.model\.": "model.",
    r"^model\.language_model\.(?!model\.|lm_head\.)": "model.",
}


_UNPACK: Final = {GGUF_SOURCES: gguf_weights, QUANTISED_SOURCES: quantised_weights}


def load_checkpoint(folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Load a full checkpoint for inference.

    Raises:
        ModelRejected: transformers cannot read it, a weight is missing, infinite or NaN.
    """
    loader: Any = AutoModelForCausalLM
    try:
        source: Any = folder
        more: dict[str, Any] = {}
        unpack = next((unpack for name, unpack in _UNPACK.items() if (folder / name).is_file()), None)
        if unpack is None:
            more = {"key_mapping": _names_of(folder)}
        else:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            config.__dict__.pop("quantization_config", None)  # what is loaded are floats
            with torch.device("meta"):
                loader = type(loader.from_config(config))
            source, more = None, {"config": config, "state_dict": unpack(folder, dtype)}
        model, loading = loader.from_pretrained(
            source, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True, **more,
        )  # fmt: skip
    except ModelRejected:
        raise
    except Exception as error:  # an untrusted configuration can make transformers raise anything
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
    check_finite(model)
    moved: nn.Module = model.to(device)
    return moved.eval().requires_grad_(False)


def _names_of(folder: Path) -> dict[str, str] | None:
    """How to rename the tensors of a model with several parts, of which the text part alone is loaded."""
    names: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            names.update(opened.keys())
    return TEXT_PART if any("language_model." in name for name in names) else None


def check_finite(model: nn.Module, only: str = "") -> None:
    """Refuse weights, of those with ``only`` in their names, that are infinite or NaN.

    Raises:
        ModelRejected: with the name of the first.
    """
    for name, value in model.named_parameters():
        if only in name and not bool(torch.isfinite(value.detach()).all()):
            raise ModelRejected(
                f"the weights of '{name}' hold NaN or infinity",
                hint="the checkpoint is damaged: save or download it again",
            )
