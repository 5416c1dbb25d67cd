"""Dictionaries on disk: a config beside its weights, nothing executable.

Every folder holds ``cfg.json`` and ``sae_weights.safetensors``, tensors in float32.

**Diff-SAE**: the layout of SAELens (architecture ``jumprelu``), which loads it as it stands. The BatchTopK threshold
becomes the JumpReLU threshold; the input scale is folded in, so that it maps raw Δ to raw Δ. What SAELens has no field
for is in ``metadata.backdoor_audit``: ``k``, ``input_scale``, ``recipe`` and the caller's provenance; ``centred`` is
always false (decision 0037).

========== ==================== =========================================================
tensor     shape                meaning
========== ==================== =========================================================
W_enc      [d_model n_latents]  ``pre = (Δ − b_dec) @ W_enc + b_enc``
b_enc      [n_latents]
threshold  [n_latents]          a latent is ``pre`` where ``pre > threshold``, otherwise 0
W_dec      [n_latents d_model]  ``Δ̂ = latents @ W_dec + b_dec``; rows of unit norm
b_dec      [d_model]
========== ==================== =========================================================

**Crosscoder**: a layout of our own, named in ``cfg.json`` by ``"format": "backdoor-audit/crosscoder/1"``, beside
``d_model``, ``n_latents``, ``k``, ``activation`` (``jumprelu`` or, in paper mode, ``topk`` per token), ``scale_base``,
``scale_tuned``, ``recipe`` and ``provenance``.

=========================== ==================== ====================================================================
tensor                      shape                meaning
=========================== ==================== ====================================================================
W_enc_base, W_enc_tuned     [d_model n_latents]  ``pre = Σ over sides of (a_side − b_dec_side) @ W_enc_side + b_enc``
b_enc                       [n_latents]
threshold                   [n_latents]          as above
W_dec_base, W_dec_tuned     [n_latents d_model]  ``â_side = latents @ W_dec_side + b_dec_side``; norms are free
b_dec_base, b_dec_tuned     [d_model]
=========================== ==================== ====================================================================

Loading refuses everything else: other keys, other shapes, other tensors, values that are not finite.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.dictionaries.crosscoder import Crosscoder
from audit.dictionaries.diff_sae import DiffSAE
from audit.errors import InvalidDictionary

CONFIG_NAME: Final = "cfg.json"
WEIGHTS_NAME: Final = "sae_weights.safetensors"
CROSSCODER_FORMAT: Final = "backdoor-audit/crosscoder/1"

Provenance = Mapping[str, str | int | float | bool | None]

_DIFF_SAE_TENSORS: Final = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
# Attribute of the class, by the tensor's name in the file.
_CROSSCODER_TENSORS: Final = {
    "W_enc_base": "W_enc_base",
    "W_enc_tuned": "W_enc_tuned",
    "b_enc": "b_enc",
    "W_dec_base": "W_dec_base",
    "W_dec_tuned": "W_dec_tuned_raw",
    "b_dec_base": "b_dec_base",
    "b_dec_tuned": "b_dec_tuned",
    "threshold": "threshold",
}
_SAELENS_FIXED: Final[dict[str, Any]] = {
    "architecture": "jumprelu",
    "dtype": "float32",
    "device": "cpu",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
}
_SAELENS_KEYS: Final = frozenset(_SAELENS_FIXED) | {"d_in", "d_sae", "metadata"}
_OWN_KEYS: Final = frozenset({"k", "input_scale", "centred", "recipe", "provenance"})
_CROSSCODER_KEYS: Final = frozenset(
    {"format", "d_model", "n_latents", "k", "activation", "scale_base", "scale_tuned", "recipe", "provenance"}
)


@dataclass(frozen=True)
class SavedDictionary:
    """A dictionary from disk, and its metadata."""

    dictionary: DiffSAE | Crosscoder
    provenance: dict[str, str | int | float | bool | None]
    """Provenance given by the writer: model digests, layer, seed."""


def save(dictionary: DiffSAE | Crosscoder, folder: Path, *, provenance: Provenance | None = None) -> None:
    """Write ``dictionary`` into ``folder``, which is created if it does not exist.

    The two files are not written in one step: pass a folder that becomes visible as a whole (``FolderStore.create``).
    """
    folder.mkdir(parents=True, exist_ok=True)
    noted = dict(provenance or {})
    if isinstance(dictionary, DiffSAE):
        config = _diff_sae_config(dictionary, noted)
        tensors = {name: getattr(dictionary, name) for name in _DIFF_SAE_TENSORS}
    else:
        config = _crosscoder_config(dictionary, noted)
        tensors = {name: getattr(dictionary, attribute) for name, attribute in _CROSSCODER_TENSORS.items()}
    save_file({name: _plain(tensor) for name, tensor in tensors.items()}, folder / WEIGHTS_NAME)
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def load(folder: Path) -> SavedDictionary:
    """Read what :func:`save` wrote, on the CPU.

    Raises:
        audit.errors.InvalidDictionary: a file is missing or damaged, or contains something that :func:`save` would not
            have written.
    """
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS_NAME)
    except (OSError, ValueError, SafetensorError) as error:
        raise InvalidDictionary(f"The dictionary's files cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise InvalidDictionary("The dictionary's config is not an object.")
    try:
        if "format" in config:
            return _load_crosscoder(config, tensors)
        return _load_diff_sae(config, tensors)
    except (ValueError, TypeError) as error:  # what the classes themselves check: shapes, norms, ranges
        raise InvalidDictionary(f"The dictionary is not consistent: {error}") from error


def _diff_sae_config(dictionary: DiffSAE, provenance: dict[str, Any]) -> dict[str, Any]:
    own = {
        "k": dictionary.k,
        "input_scale": dictionary.input_scale,
        "centred": False,  # kept so that files written by any version have the same keys
        "recipe": dictionary.recipe,
        "provenance": provenance,
    }
    sizes = {"d_in": dictionary.d_model, "d_sae": dictionary.n_latents}
    return {**_SAELENS_FIXED, **sizes, "metadata": {"backdoor_audit": own}}


def _crosscoder_config(dictionary: Crosscoder, provenance: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": CROSSCODER_FORMAT,
        "d_model": dictionary.d_model,
        "n_latents": dictionary.n_latents,
        "k": dictionary.k,
        "activation": "topk" if dictionary.per_token_top_k else "jumprelu",
        "scale_base": dictionary.scale_base,
        "scale_tuned": dictionary.scale_tuned,
        "recipe": dictionary.recipe,
        "provenance": provenance,
    }


def _load_diff_sae(config: dict[str, Any], tensors: dict[str, Tensor]) -> SavedDictionary:
    _same_keys("config", config, _SAELENS_KEYS)
    for key, expected in _SAELENS_FIXED.items():
        if config[key] != expected:
            raise InvalidDictionary(f"The config's {key} is {config[key]!r}, expected {expected!r}.")
    _same_keys("metadata", config["metadata"], frozenset({"backdoor_audit"}))
    own = config["metadata"]["backdoor_audit"]
    _same_keys("metadata.backdoor_audit", own, _OWN_KEYS)
    _one_of(own["centred"], (False,))
    _check_tensors(tensors, frozenset(_DIFF_SAE_TENSORS))
    dictionary = DiffSAE(
        **tensors,
        k=_whole(own["k"]),
        input_scale=_positive(own["input_scale"]),
        recipe=_one_of(own["recipe"], ("default", "paper")),
    )
    _check_sizes(dictionary, config["d_in"], config["d_sae"])
    return SavedDictionary(dictionary, _provenance(own["provenance"]))


def _load_crosscoder(config: dict[str, Any], tensors: dict[str, Tensor]) -> SavedDictionary:
    _same_keys("config", config, _CROSSCODER_KEYS)
    _one_of(config["format"], (CROSSCODER_FORMAT,))
    _check_tensors(tensors, frozenset(_CROSSCODER_TENSORS))
    dictionary = Crosscoder(
        **{attribute: tensors[name] for name, attribute in _CROSSCODER_TENSORS.items()},
        k=_whole(config["k"]),
        scale_base=_positive(config["scale_base"]),
        scale_tuned=_positive(config["scale_tuned"]),
        per_token_top_k=_one_of(config["activation"], ("jumprelu", "topk")) == "topk",
        recipe=_one_of(config["recipe"], ("default", "paper")),
    )
    _check_sizes(dictionary, config["d_model"], config["n_latents"])
    return SavedDictionary(dictionary, _provenance(config["provenance"]))


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).contiguous().clone()


def _same_keys(what: str, value: Any, expected: frozenset[str]) -> None:
    if not isinstance(value, dict):
        raise InvalidDictionary(f"The {what} is not an object.")
    unknown, missing = sorted(set(value) - expected), sorted(expected - set(value))
    if unknown or missing:
        raise InvalidDictionary(f"The {what} has unknown keys {unknown} and lacks {missing}.")


def _check_tensors(tensors: dict[str, Tensor], expected: frozenset[str]) -> None:
    _same_keys("weights file", tensors, expected)
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise InvalidDictionary(f"The tensor {name} is {tensor.dtype}, expected float32.")
        if not bool(tensor.isfinite().all()):
            raise InvalidDictionary(f"The tensor {name} holds values that are not finite.")


def _check_sizes(dictionary: DiffSAE | Crosscoder, d_model: Any, n_latents: Any) -> None:
    if (d_model, n_latents) != (dictionary.d_model, dictionary.n_latents):
        raise InvalidDictionary(
            f"The config says {d_model} by {n_latents}, the weights {dictionary.d_model} by {dictionary.n_latents}."
        )


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidDictionary(f"Expected a positive whole number, not {value!r}.")
    return value


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < float("inf"):
        raise InvalidDictionary(f"Expected a positive number, not {value!r}.")
    return float(value)


def _one_of(value: Any, allowed: tuple[Any, ...]) -> Any:
    if not any(type(value) is type(item) and value == item for item in allowed):
        raise InvalidDictionary(f"Expected one of {allowed}, not {value!r}.")
    return value


def _provenance(value: Any) -> dict[str, str | int | float | bool | None]:
    if not isinstance(value, dict) or not all(isinstance(item, str | int | float | None) for item in value.values()):
        raise InvalidDictionary("The provenance is not a flat object.")
    return value
