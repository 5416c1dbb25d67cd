"""LoRA adapters: adapter_config.json read by us, its header held against it, and the fit to a base.

Only what adds ``B·A`` to a linear layer is taken. ``modules_to_save``, trained embeddings, biases, DoRA and the
initialisations that rewrite the base's weights (PiSSA, OLoRA, LoftQ and their kin) are refused: with the adapter
switched off, the shared weights would no longer be the base's.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final

from models_store.errors import ModelRejected, ModelsIncompatible
from models_store.files import shown
from models_store.verification.headers import FLOATS, Tensor

CONFIG_NAME: Final = "adapter_config.json"
WEIGHTS_NAME: Final = "adapter_model.safetensors"
MAX_RANK: Final = 4_096
_MAX_MODULES: Final = 10_000
_MAX_TEXT: Final = 1_000
_MERGE: Final = "merge the adapter into its base (merge_and_unload) and audit the full checkpoint"

_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,100}(?:\.[A-Za-z0-9_]{1,100}){0,15}")
_FACTOR: Final = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]+)\.lora_(?P<side>[AB])\.weight")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

# Keys whose value must be one of these: with another value, the adapter would be more than B·A.
_FIXED: Final[dict[str, tuple[Any, ...]]] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM",),
    "auto_mapping": (None,),
    "megatron_config": (None,),
    "megatron_core": ("megatron.core", None),
    "bias": ("none",),
    "lora_bias": (False,),
    "use_dora": (False,),
    "use_qalora": (False,),
    "use_bdlora": (None, False),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "layer_replication": (None, []),
    "alora_invocation_tokens": (None,),
    "loftq_config": ({}, None),
    "init_lora_weights": (True, False, "gaussian"),
    **dict.fromkeys(
        (
            "eva_config",
            "corda_config",
            "lora_ga_config",
            "velora_config",
            "monteclora_config",
            "arrow_config",
            "kasa_config",
        ),
        (None,),
    ),
}
_FREE: Final = frozenset(
    {
        "alpha_pattern",
        "base_model_name_or_path",
        "ensure_weight_tying",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "target_modules",
        "use_rslora",
    }
)


@dataclass(frozen=True)
class AdapterShape:
    """What an adapter's configuration and header say.

    Attributes:
        rank: the rank of modules without one of their own.
        targets: names (or ends of names) of the modules that are adapted.
        excluded: names that are left out.
        layers: numbers of the blocks that are adapted; None for all.
        modules: every adapted module: its name in the base, sizes of its output and input.
        base_model_name: the adapter's own note of its base; a hub name, or a path that may not exist.
    """

    rank: int
    targets: tuple[str, ...]
    excluded: tuple[str, ...]
    layers: tuple[int, ...] | None
    modules: Mapping[str, tuple[int, int]]
    base_model_name: str | None


def check_adapter(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> AdapterShape:
    """Check an adapter's configuration, and its header against it.

    Raises:
        ModelRejected: no plain LoRA, a key that is not on the list, a pattern where a name is meant, a tensor that is
            missing, foreign, or of another shape than the rank allows. The file and the key or tensor are named.
    """
    for key in sorted(config.keys() - set(_FIXED) - _FREE):
        _refuse(
            key, "is not a key of LoRA that is on the list", "save the adapter with a current PEFT, or delete the key"
        )
    for key, allowed in _FIXED.items():
        required = key in ("peft_type", "task_type")
        value = config.get(key, None if required else allowed[0])
        if not any(value == one and type(value) is type(one) for one in allowed):
            given, must = shown(json.dumps(value), 40), json.dumps(allowed[0])
            hint = "save the adapter with task_type CAUSAL_LM" if key == "task_type" else _MERGE
            _refuse(key, f"is {given} and must be {must}: only plain LoRA of a language model is taken", hint)
    for key, value in config.items():
        _check_plain(key, value)
    rank = _whole(config, "r", MAX_RANK)
    targets = _names(config, "target_modules", required=True)
    ranks = _pattern(config, "rank_pattern")
    _pattern(config, "alpha_pattern")
    alpha = config.get("lora_alpha", 8)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= 1e6:
        _refuse("lora_alpha", "must be a number above 0", "correct the value")
    excluded = _names(config, "exclude_modules", required=False)
    _names(config, "layers_pattern", required=False)
    modules = _modules(tensors, rank, ranks, targets)
    name = config.get("base_model_name_or_path")
    return AdapterShape(rank, targets, excluded, _layers(config), modules, name)


def recorded_base_digest(metadata: Mapping[str, str], card: Mapping[str, Any]) -> str | None:
    """The digest of the base that an adapter was made for, or None.

    It is looked for in the notes of the weights' header, then in card.json.

    Raises:
        ModelRejected: a ``base_digest`` is there and is none.
    """
    for where, notes in ((WEIGHTS_NAME, metadata), ("card.json", card)):
        value = notes.get("base_digest")
        if value is None:
            continue
        if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
            raise ModelRejected(
                f"{where}: 'base_digest' is no sha256 digest", hint="write sha256:<64 hex>, or delete it"
            )
        return value
    return None


def check_fit(adapter: AdapterShape, base: Mapping[str, tuple[int, int, int | None]]) -> None:
    """Hold an adapter against the linear modules of a base.

    Args:
        adapter: a checked adapter.
        base: module name to sizes of output and input, and its block's number.

    Raises:
        ModelsIncompatible: a module that the base lacks, of another shape, or a targeted module that the adapter lacks.
    """
    hint = "audit the adapter on the base it was trained on"
    for module, (out, into) in sorted(adapter.modules.items()):
        there = base.get(module)
        if there is None:
            raise ModelsIncompatible(
                f"{WEIGHTS_NAME}: adapts '{shown(module)}', which the base does not have", hint=hint
            )
        if there[:2] != (out, into):
            raise ModelsIncompatible(
                f"{WEIGHTS_NAME}: '{shown(module)}' maps {into} to {out}, in the base {there[1]} to {there[0]}",
                hint=hint,
            )
    targets, excluded = frozenset(adapter.targets), frozenset(adapter.excluded)
    for module, (_, _, block) in base.items():
        wanted = _ends(module, targets) and not _ends(module, excluded)
        if wanted and adapter.layers is not None:
            wanted = block in adapter.layers
        if wanted and module not in adapter.modules:
            raise ModelsIncompatible(
                f"{WEIGHTS_NAME}: has nothing for '{module}', which {CONFIG_NAME} targets in this base", hint=hint
            )


def _refuse(key: str, what: str, hint: str) -> None:
    raise ModelRejected(f"{CONFIG_NAME}: '{shown(key)}' {what}", hint=hint)


def _check_plain(key: str, value: Any) -> None:
    if key in ("base_model_name_or_path", "peft_version", "revision"):
        if value is not None and (not isinstance(value, str) or len(value) > _MAX_TEXT):
            _refuse(key, "must be a short text", "correct the value")
    elif key in ("use_rslora", "fan_in_fan_out", "inference_mode", "ensure_weight_tying"):
        if not isinstance(value, bool):
            _refuse(key, "must be true or false", "correct the value")
    elif key == "lora_dropout":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            _refuse(key, "must be a number from 0 to 1", "correct the value")
    elif key == "qalora_group_size" and type(value) is not int:
        _refuse(key, "must be a whole number", "correct the value")


def _whole(config: Mapping[str, Any], key: str, most: int) -> int:
    value = config.get(key)
    if type(value) is not int or not 1 <= value <= most:
        _refuse(key, f"must be a whole number from 1 to {most}", "correct the value")
    return int(value)  # type: ignore[arg-type]


def _names(config: Mapping[str, Any], key: str, *, required: bool) -> tuple[str, ...]:
    value = config.get(key)
    if value is None and not required:
        return ()
    if key == "layers_pattern" and isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value or len(value) > _MAX_MODULES:
        _refuse(key, "must be a list of module names; patterns are not read", "list the names, as PEFT does by default")
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in value or ()):
        _refuse(key, "holds something else than plain module names", "list the names, as PEFT does by default")
    return tuple(sorted(value or ()))


def _pattern(config: Mapping[str, Any], key: str) -> dict[str, int]:
    value = config.get(key) or {}
    if not isinstance(value, dict) or len(value) > _MAX_MODULES:
        _refuse(key, "must map module names to numbers", "correct the value")
    for name, number in value.items():
        if not _NAME.fullmatch(name):
            _refuse(key, f"holds the pattern '{shown(name)}' where a module's name is meant", "list the full names")
        whole = type(number) is int or (key == "alpha_pattern" and type(number) is float and math.isfinite(number))
        if not whole or not 0 < number <= MAX_RANK:
            _refuse(key, f"gives '{shown(name)}' no usable number", "correct the value")
    return dict(value)


def _layers(config: Mapping[str, Any]) -> tuple[int, ...] | None:
    value = config.get("layers_to_transform")
    if value is None:
        return None
    numbers = value if isinstance(value, list) else [value]
    if not all(type(number) is int and 0 <= number < _MAX_MODULES for number in numbers) or len(numbers) > _MAX_MODULES:
        _refuse("layers_to_transform", "must list numbers of layers", "correct the value")
    return tuple(sorted(numbers)) or None


def _endings(module: str) -> Iterator[str]:
    """The module's name, and every end of it after a dot: a name on a list means all modules that end in it."""
    yield module
    at = module.find(".")
    while at >= 0:
        yield module[at + 1 :]
        at = module.find(".", at + 1)


def _ends(module: str, names: Set[str]) -> bool:
    return any(end in names for end in _endings(module))


def _modules(
    tensors: Mapping[str, Tensor], rank: int, ranks: Mapping[str, int], targets: tuple[str, ...]
) -> dict[str, tuple[int, int]]:
    """Output and input size of every adapted module."""
    sides: dict[str, dict[str, Tensor]] = {}
    targeted = frozenset(targets)
    for name, tensor in tensors.items():
        match = _FACTOR.fullmatch(name)
        if match is None or not _ends(match["module"], targeted):
            raise ModelRejected(
                f"{WEIGHTS_NAME}: '{shown(name)}' is not a LoRA factor of a targeted module",
                hint=f"trained embeddings, heads and biases are not taken: {_MERGE}",
            )
        if tensor.dtype not in FLOATS or len(tensor.shape) != 2:
            raise ModelRejected(
                f"{WEIGHTS_NAME}: '{shown(name)}' is no matrix of floats", hint="save the adapter again"
            )
        sides.setdefault(match["module"], {})[match["side"]] = tensor
    if not sides:
        raise ModelRejected(f"{WEIGHTS_NAME}: adapts no module", hint="save the adapter again")
    modules: dict[str, tuple[int, int]] = {}
    order = {name: place for place, name in enumerate(ranks)}
    for module, pair in sides.items():
        if len(pair) < 2:
            side = "B" if "A" in pair else "A"
            raise ModelRejected(
                f"{WEIGHTS_NAME}: lora_{side} of '{shown(module)}' is not there", hint="save the adapter again"
            )
        # Of several that fit, the first counts, as in PEFT.
        first = min((end for end in _endings(module) if end in order), key=lambda end: order[end], default=None)
        own = rank if first is None else ranks[first]
        if pair["A"].shape[0] != own or pair["B"].shape[1] != own:
            raise ModelRejected(
                f"{WEIGHTS_NAME}: the factors of '{shown(module)}' have the shapes {list(pair['A'].shape)} and "
                f"{list(pair['B'].shape)}, {CONFIG_NAME} says rank {own}",
                hint="config and weights must belong together",
            )
        modules[module] = (pair["B"].shape[0], pair["A"].shape[1])
    adapted = {end for module in modules for end in _endings(module)}
    for target in targets:
        if target not in adapted:
            raise ModelRejected(
                f"{WEIGHTS_NAME}: has nothing for the target module '{shown(target)}'",
                hint="config and weights must belong together",
            )
    return modules
