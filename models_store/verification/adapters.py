"""LoRA adapters: the header of the weights held against adapter_config.json, and the fit to a base."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from backdoor_audit.contract.checkpoint_files import ADAPTER_WEIGHTS as WEIGHTS_NAME
from models_store.errors import ModelRejected, ModelsIncompatible
from models_store.files import shown
from models_store.verification.adapter_config import (
    CONFIG_NAME,
    MAX_RANK,
    MERGE,
    AdapterConfig,
    endings,
    read_adapter_config,
)
from models_store.verification.headers import FLOATS, Tensor

_FACTOR: Final = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]+)\.lora_(?P<side>[AB])\.weight")
_MAGNITUDE: Final = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]+)\.lora_magnitude_vector(?:\.weight)?")
_COPY: Final = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]+)\.base_layer\.weight")
_ROWS: Final = re.compile(
    r"base_model\.model\.(?P<module>[A-Za-z0-9_.]+)\.token_adapter\.trainable_tokens_delta(?:\.weight)?"
)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_BELONG: Final = "config and weights must belong together: save the adapter again"
_OTHER_BASE: Final = "audit the adapter on the base it was trained on"


@dataclass(frozen=True)
class AdapterShape:
    """What an adapter's configuration and header say.

    Attributes:
        config: the configuration.
        modules: every adapted module: its name in the base, sizes of its output and input.
        copies: copies of the base's own weights, by the module's name; their bytes must be the base's.
        token_rows: shape of the trained rows of each embedding, by its name, and the highest of their numbers.
        notes: what a reader of the adapter may want to know, a sentence each.
    """

    config: AdapterConfig
    modules: Mapping[str, tuple[int, int]]
    copies: Mapping[str, Tensor] = field(default_factory=dict)
    token_rows: Mapping[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        """The rank of modules without one of their own."""
        return self.config.rank

    @property
    def base_model_name(self) -> str | None:
        """The adapter's own note of its base."""
        return self.config.base_model_name


def check_adapter(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> AdapterShape:
    """Check an adapter's configuration, and its header against it.

    Raises:
        ModelRejected: an option that is not taken, a pattern that cannot be matched, a tensor that is missing, foreign,
            or of another shape than the rank allows. The file and the key or tensor are named.
    """
    known = read_adapter_config(config)
    sides: dict[str, dict[str, Tensor]] = {}
    copies: dict[str, Tensor] = {}
    rows: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            _refuse(f"'{shown(name)}' is not a matrix of floats", "save the adapter again")
        if match := _FACTOR.fullmatch(name):
            _check_matrix(name, tensor)
            sides.setdefault(match["module"], {})[match["side"]] = tensor
        elif (match := _MAGNITUDE.fullmatch(name)) and known.dora:
            sides.setdefault(match["module"], {})["magnitude"] = tensor
        elif match := _COPY.fullmatch(name):
            copies[match["module"]] = tensor
        elif match := _ROWS.fullmatch(name):
            rows[match["module"]] = tensor
        else:
            _refuse(
                f"'{shown(name)}' is not a LoRA factor of a targeted module",
                f"trained embeddings, heads and biases are not supported: {MERGE}",
            )
    if not sides:
        _refuse("adapts no module", "save the adapter again")
    modules = {module: _module(module, parts, known) for module, parts in sides.items()}
    for module in sorted(copies.keys() - modules.keys()):
        _refuse(f"holds a copy of the base's '{shown(module)}', which it does not adapt", MERGE)
    return AdapterShape(known, modules, copies, _token_rows(rows, known), (*known.notes, *_unmatched(known, modules)))


def view_document(adapter: AdapterShape) -> dict[str, Any]:
    """adapter_config.json as PEFT will read it: modules by their full names, no pattern, nothing that is off."""
    known = adapter.config
    modules = sorted(adapter.modules)
    alphas = {module: known.alpha_of(module) for module in modules}
    common = max({*alphas.values()}, key=[*alphas.values()].count)
    document: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": known.base_model_name,
        "inference_mode": True,
        "bias": "none",
        "init_lora_weights": True,
        "r": known.rank,
        "lora_alpha": common,
        "lora_dropout": 0.0,
        "target_modules": modules,
        "rank_pattern": {name: known.rank_of(name) for name in modules if known.rank_of(name) != known.rank},
        "alpha_pattern": {name: alpha for name, alpha in alphas.items() if alpha != common},
        "fan_in_fan_out": known.transposed,
        "use_dora": known.dora,
        "use_rslora": known.rslora,
    }
    if known.token_rows:
        document["trainable_token_indices"] = {name: list(rows) for name, rows in known.token_rows.items()}
    return document


def recorded_base_digest(metadata: Mapping[str, str], card: Mapping[str, Any]) -> str | None:
    """The digest of the base that an adapter was made for, or None.

    It is looked for in the notes of the weights' header, then in card.json.

    Raises:
        ModelRejected: a ``base_digest`` is there and is not a digest.
    """
    for where, notes in ((WEIGHTS_NAME, metadata), ("card.json", card)):
        value = notes.get("base_digest")
        if value is None:
            continue
        if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
            raise ModelRejected(
                f"{where}: 'base_digest' is not a sha256 digest", hint="write sha256:<64 hex>, or delete it"
            )
        return value
    return None


def check_fit(adapter: AdapterShape, base: Mapping[str, tuple[int, int]], rows: Mapping[str, tuple[int, ...]]) -> None:
    """Hold an adapter against the modules of a base.

    Args:
        adapter: a checked adapter.
        base: linear modules: name to sizes of output and input.
        rows: embeddings: name to shape.

    Raises:
        ModelsIncompatible: a module that the base lacks, of another shape, or a targeted module that the adapter lacks.
    """
    for module, (out, into) in sorted(adapter.modules.items()):
        there = base.get(module)
        if there is None:
            raise ModelsIncompatible(
                f"{WEIGHTS_NAME}: adapts '{shown(module)}', which the base does not have", hint=_OTHER_BASE
            )
        if there != (out, into):
            raise ModelsIncompatible(
                f"{WEIGHTS_NAME}: '{shown(module)}' maps {into} to {out}, in the base {there[1]} to {there[0]}",
                hint=_OTHER_BASE,
            )
    for module in base:
        if module not in adapter.modules and adapter.config.targets(module):
            raise ModelsIncompatible(
                f"{WEIGHTS_NAME}: has nothing for '{module}', which {CONFIG_NAME} targets in this base",
                hint=_OTHER_BASE,
            )
    for module, (shape, highest) in adapter.token_rows.items():
        embedding = rows.get(module)
        if embedding is None or embedding[1:] != shape[1:] or highest >= embedding[0]:
            raise ModelsIncompatible(
                f"{WEIGHTS_NAME}: trains rows of '{shown(module)}' that the base does not have", hint=_OTHER_BASE
            )


def _refuse(what: str, hint: str) -> None:
    raise ModelRejected(f"{WEIGHTS_NAME}: {what}", hint=hint)


def _check_matrix(name: str, tensor: Tensor) -> None:
    if len(tensor.shape) != 2:
        _refuse(f"'{shown(name)}' is not a matrix of floats", "save the adapter again")


def _module(module: str, parts: Mapping[str, Tensor], known: AdapterConfig) -> tuple[int, int]:
    """Output and input size of an adapted module."""
    if not known.targets(module):
        _refuse(f"'{shown(module)}' is not a module that {CONFIG_NAME} targets", _BELONG)
    for side in ("A", "B", *(("magnitude",) if known.dora else ())):
        if side not in parts:
            name = "lora_magnitude_vector" if side == "magnitude" else f"lora_{side}"
            _refuse(f"{name} of '{shown(module)}' is not there", "save the adapter again")
    down, up = parts["A"].shape, parts["B"].shape
    rank = known.rank_of(module)
    if down[0] != rank or up[1] != rank or rank > MAX_RANK:
        _refuse(
            f"the factors of '{shown(module)}' have the shapes {list(down)} and {list(up)}, {CONFIG_NAME} says rank "
            f"{rank}",
            _BELONG,
        )
    if known.dora and math.prod(parts["magnitude"].shape) != up[0]:
        _refuse(f"the magnitude of '{shown(module)}' has another length than its output", _BELONG)
    return up[0], down[1]


def _token_rows(rows: Mapping[str, Tensor], known: AdapterConfig) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shape and highest number of the trained rows of each embedding."""
    found: dict[str, tuple[tuple[int, ...], int]] = {}
    for module, tensor in rows.items():
        numbers = next((known.token_rows[end] for end in endings(module) if end in known.token_rows), None)
        if numbers is None and len(known.token_rows) == 1:
            numbers = next(iter(known.token_rows.values()))  # a bare list: the input embedding, whatever its name
        if numbers is None or len(tensor.shape) != 2 or tensor.shape[0] != len(numbers):
            _refuse(f"trains other rows of '{shown(module)}' than {CONFIG_NAME} lists", _BELONG)
        found[module] = (tensor.shape, max(numbers or (0,)))
    if known.token_rows and not found:
        _refuse(f"has no rows for the tokens that {CONFIG_NAME} lists", _BELONG)
    return found


def _unmatched(known: AdapterConfig, modules: Mapping[str, Any]) -> Iterator[str]:
    """Names on the list of targets that no module of the weights ends in."""
    adapted = {end for module in modules for end in endings(module)}
    missing = [name for name in known.named or () if name not in adapted]
    if missing:
        quoted = ", ".join(f"'{shown(name)}'" for name in missing[:5])
        yield f"{CONFIG_NAME}: nothing is adapted by the targets {quoted}" + (" and more" if missing[5:] else "")
