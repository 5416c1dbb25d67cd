"""adapter_config.json: which options of LoRA are taken, and which modules they name.

Taken is what adds to the base and can be switched off again exactly: plain LoRA, rsLoRA, DoRA, trained rows of the
embedding, whatever initialised them; and weights that were trained whole (``modules_to_save``, biases, a resized
vocabulary), which are put on a second copy of the base. Initialisations that rewrite the base's weights (PiSSA, OLoRA,
CorDA, LoftQ, LoRA-GA) are refused: the base that they start from is not the one that is named. An option that is off
says nothing, whether we know it or not; one that is on and that we do not know is refused.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from models_store.errors import ModelRejected
from models_store.files import shown
from models_store.verification.adapters.patterns import Budget, Pattern, PatternRefused
from models_store.verification.rewriting import is_off, says_nothing

CONFIG_NAME: Final = "adapter_config.json"
MAX_RANK: Final = 4_096
MERGE: Final = "merge the adapter into its base (merge_and_unload) and audit the full checkpoint"
_MAX_MODULES: Final = 10_000
_MAX_TEXT: Final = 1_000
_MAX_SAVED: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,100}(?:\.[A-Za-z0-9_]{1,100}){0,15}")
_BLOCK: Final = re.compile(r".*?\.[^.]*\.(?P<block>[0-9]{1,6})\.")
_ALL_LINEAR: Final = "all-linear"
_HEAD: Final = "lm_head"

# Initialisations that leave the base as it is; the trained factors take their place when the adapter is loaded.
BIASES: Final = ("none", "lora_only", "all")
INITIALISATIONS: Final = (True, False, None, "gaussian", "eva", "orthogonal")
# Notes, options of training, and what belongs to initialisations above: no forward pass depends on them.
IDLE_OPTIONS: Final = frozenset(
    {
        "auto_mapping",
        "corda_config",
        "eva_config",
        "inference_mode",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "unsloth_fixed",
        "unsloth_version",
    }
)
READ_OPTIONS: Final = frozenset(
    {
        "alpha_pattern",
        "base_model_name_or_path",
        "bias",
        "ensure_weight_tying",
        "exclude_modules",
        "fan_in_fan_out",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_bias",
        "modules_to_save",
        "peft_type",
        "r",
        "rank_pattern",
        "target_modules",
        "task_type",
        "trainable_token_indices",
        "use_dora",
        "use_rslora",
    }
)

Matcher = Callable[[str], bool]


@dataclass(frozen=True)
class AdapterConfig:
    """An adapter's configuration, read by us.

    Attributes:
        rank: of modules without one of their own.
        targets: whether a module of a base, by its full name, is meant to be adapted.
        named: the list of target modules as it was given; None for a pattern.
        rank_of: rank of a module.
        alpha_of: scale of a module.
        dora: whether each module has a trained magnitude.
        rslora: whether the scale is divided by the root of the rank.
        transposed: ``fan_in_fan_out``, which layers of GPT-2 need.
        token_rows: trained rows of the embedding: the module's name to their numbers.
        bias: which biases of the base were trained: ``none``, ``lora_only`` (of adapted modules) or ``all``.
        factor_bias: whether the second factor of each module has a bias.
        saved: modules that were trained whole, by the ends of their names; empty if none were.
        tied: whether what adapts the embedding adapts a head that is tied to it as well.
        base_model_name: the adapter's own note of its base; a hub name, or a path that may not exist.
        notes: what was dropped or inferred, a sentence each.
    """

    rank: int
    targets: Matcher
    named: tuple[str, ...] | None
    rank_of: Callable[[str], int]
    alpha_of: Callable[[str], float]
    dora: bool
    rslora: bool
    transposed: bool
    token_rows: Mapping[str, tuple[int, ...]]
    base_model_name: str | None
    notes: tuple[str, ...]
    bias: str = "none"
    factor_bias: bool = False
    saved: tuple[str, ...] = ()
    tied: bool = False

    def trained_module(self, module: str) -> str | None:
        """The module, or the folder of modules around it, that was trained whole; None if none was.

        PEFT takes every module whose name ends in one of the names, be it in the middle of a word.

        Raises:
            ModelRejected: two folders, one inside the other, were: which of them PEFT reads depends on its version.
        """
        parts = module.split(".")
        around = (".".join(parts[: count + 1]) for count in range(len(parts)))
        found = [name for name in around if self.saved and name.endswith(self.saved)]
        if len(found) > 1:
            _refuse("modules_to_save", f"names '{shown(found[1])}' inside '{shown(found[0])}'", MERGE)
        return found[0] if found else None


def read_adapter_config(config: Mapping[str, Any]) -> AdapterConfig:
    """Read an adapter's configuration.

    Raises:
        ModelRejected: another method than LoRA, another kind of model, an option that is on and is not taken, a value
            that it cannot have, a pattern that cannot be matched in bounded time. The key is named.
    """
    method = config.get("peft_type")
    if method != "LORA":
        # What adds vectors to the prompt cannot be merged into weights.
        merges = isinstance(method, str) and not re.search("PROMPT|PREFIX|P_TUNING|CPT", method)
        _refuse(
            "peft_type", f'is {_given(method)} and must be "LORA"', MERGE if merges else "only LoRA adapters are read"
        )
    notes = [*_refuse_more(config), *_task(config)]
    budget = Budget()
    rank = _rank(config)
    named = _list_or_none(config, "target_modules")
    ranks = _numbers(config, "rank_pattern", budget)
    alphas = _numbers(config, "alpha_pattern", budget)
    alpha = config.get("lora_alpha", 8)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= 1e6:
        _refuse("lora_alpha", "must be a number above 0", "save the adapter with a current PEFT")
    name = config.get("base_model_name_or_path")
    if name is not None and (not isinstance(name, str) or len(name) > _MAX_TEXT):
        _refuse("base_model_name_or_path", "must be a short text", "save the adapter with a current PEFT")
    saved = () if is_off(config.get("modules_to_save")) else _named("modules_to_save", config["modules_to_save"])
    if len(saved) > _MAX_SAVED:
        _refuse("modules_to_save", f"names more than {_MAX_SAVED} modules", MERGE)
    return AdapterConfig(
        rank=rank,
        targets=_targets(config, saved, budget),
        named=named,
        rank_of=lambda module: int(ranks.of(module, rank)),
        alpha_of=lambda module: alphas.of(module, alpha),
        dora=_switch(config, "use_dora"),
        rslora=_switch(config, "use_rslora"),
        transposed=_switch(config, "fan_in_fan_out"),
        token_rows=_token_rows(config.get("trainable_token_indices")),
        base_model_name=name,
        notes=tuple(notes),
        bias=config.get("bias") or "none",
        factor_bias=_switch(config, "lora_bias"),
        saved=saved,
        tied=_switch(config, "ensure_weight_tying"),
    )


def endings(module: str) -> Iterator[str]:
    """The module's name, and every end of it after a dot: a name on a list means all modules that end in it."""
    yield module
    at = module.find(".")
    while at >= 0:
        yield module[at + 1 :]
        at = module.find(".", at + 1)


def _refuse(key: str, what: str, hint: str) -> None:
    raise ModelRejected(f"{CONFIG_NAME}: '{shown(key)}' {what}", hint=hint)


def _given(value: Any) -> str:
    return shown(json.dumps(value), 40)


def _refuse_more(config: Mapping[str, Any]) -> Iterator[str]:
    """Refuse options that are on and not taken; name those that were dropped."""
    for key, value in sorted(config.items()):
        if key in IDLE_OPTIONS:
            if (key == "auto_mapping" or key.endswith("_config")) and not is_off(value):
                yield f"{CONFIG_NAME}: '{key}' is not used: nothing is imported or initialised by it"
        elif key not in READ_OPTIONS and not says_nothing(value):
            _refuse(key, f"is {_given(value)}, an option that is on and is not supported", MERGE)
    init = config.get("init_lora_weights", True)
    if not any(init is one or (isinstance(one, str) and init == one) for one in INITIALISATIONS):
        _refuse("init_lora_weights", f"is {_given(init)}, which rewrites the base's weights", MERGE)
    if not is_off(config.get("bias")) and config["bias"] not in BIASES:
        _refuse("bias", f"is {_given(config['bias'])} and must be {' or '.join(BIASES)}", MERGE)
    if not is_off(config.get("megatron_core")) and config["megatron_core"] != "megatron.core":
        _refuse("megatron_core", "names another library", "save the adapter with a current PEFT")


def _task(config: Mapping[str, Any]) -> Iterator[str]:
    task = config.get("task_type")
    if task is None:
        yield f"{CONFIG_NAME}: 'task_type' is missing and taken to be CAUSAL_LM"
    elif task != "CAUSAL_LM":
        _refuse("task_type", f"is {_given(task)}: only causal language models are audited", "audit another adapter")


def _rank(config: Mapping[str, Any]) -> int:
    rank = config.get("r")
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        _refuse("r", f"must be a whole number from 1 to {MAX_RANK}", "save the adapter with a current PEFT")
    return int(rank)  # type: ignore[arg-type]


def _switch(config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        _refuse(key, "must be true or false", "save the adapter with a current PEFT")
    return bool(value)


def _pattern(key: str, text: str, budget: Budget) -> Matcher:
    try:
        pattern = Pattern(text, budget)
    except PatternRefused as error:
        _refuse(key, f"holds a pattern that {error}", "list the names of the modules")

    def matches(module: str) -> bool:
        try:
            return pattern.matches(module)
        except PatternRefused as error:
            raise ModelRejected(
                f"{CONFIG_NAME}: '{key}' holds a pattern that {error}", hint="list the names of the modules"
            ) from error

    return matches


def _named(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MAX_MODULES:
        _refuse(key, "must be a pattern or a list of module names", "list the names, as PEFT does by default")
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in value):
        _refuse(key, "holds something else than module names", "list the names, as PEFT does by default")
    return tuple(sorted(set(value)))


def _list_or_none(config: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    value = config.get(key)
    return None if isinstance(value, str) else _named(key, value or [])


def _ending_in(names: tuple[str, ...]) -> Matcher:
    chosen = frozenset(names)
    return lambda module: any(end in chosen for end in endings(module))


def _either(config: Mapping[str, Any], key: str, budget: Budget) -> Matcher | None:
    """What a key says that holds a pattern or a list of names; None if it is off."""
    value = config.get(key)
    if is_off(value) or value == "":
        return None
    if value == _ALL_LINEAR:
        return lambda module: module != _HEAD
    return _pattern(key, value, budget) if isinstance(value, str) else _ending_in(_named(key, value))


def _targets(config: Mapping[str, Any], saved: tuple[str, ...], budget: Budget) -> Matcher:
    targeted = _either(config, "target_modules", budget)
    excluded = _either(config, "exclude_modules", budget)
    if targeted is None:
        _refuse("target_modules", "names no module", "save the adapter with a current PEFT")
    in_block = _blocks(config, budget)

    def wanted(module: str) -> bool:
        chosen = targeted is not None and targeted(module) and in_block(module) and not _is_within(module, saved)
        return chosen and not (excluded is not None and excluded(module))

    return wanted


def _is_within(module: str, saved: tuple[str, ...]) -> bool:
    """Whether a module is trained whole, alone or with the folder around it: PEFT never adapts those."""
    return any(f".{name}." in f".{module}." for name in saved)


def _blocks(config: Mapping[str, Any], budget: Budget) -> Matcher:
    value = config.get("layers_to_transform")
    if is_off(value):
        return lambda module: True
    numbers = value if isinstance(value, list) else [value]
    if not all(type(number) is int and 0 <= number < _MAX_MODULES for number in numbers) or len(numbers) > _MAX_MODULES:
        _refuse("layers_to_transform", "must list numbers of layers", "save the adapter with a current PEFT")
    folders = config.get("layers_pattern")
    given = [folders] if isinstance(folders, str) and folders else folders
    names = _named("layers_pattern", given) if given else None
    chosen = frozenset(numbers)

    def inside(module: str) -> bool:
        match = _BLOCK.match(f".{module}")
        if match is None or int(match["block"]) not in chosen:
            return False
        folder = module[: match.start("block") - 1].rstrip(".")
        return names is None or any(end in names for end in endings(folder))

    return inside


class _Numbers:
    """Numbers of single modules, in their order: of several that fit a module, the first counts, as in PEFT."""

    def __init__(self) -> None:
        self._named: dict[str, tuple[int, float]] = {}
        self._patterns: list[tuple[int, Matcher, float]] = []

    def add(self, key: str, name: str, number: float, budget: Budget) -> None:
        """Add the next one."""
        place = len(self._named) + len(self._patterns)
        if _NAME.fullmatch(name):
            self._named[name] = (place, number)
        else:
            self._patterns.append((place, _pattern(key, rf"(.*\.)?({name})", budget), number))

    def of(self, module: str, otherwise: float) -> float:
        """The number of a module."""
        never = len(self._named) + len(self._patterns)
        first, number = min(
            (self._named[end] for end in endings(module) if end in self._named), default=(never, otherwise)
        )
        for place, fits, value in self._patterns:
            if place < first and fits(module):
                return value
        return number


def _numbers(config: Mapping[str, Any], key: str, budget: Budget) -> _Numbers:
    found = _Numbers()
    value = config.get(key)
    if is_off(value):
        return found
    if not isinstance(value, dict) or len(value) > _MAX_MODULES:
        raise ModelRejected(
            f"{CONFIG_NAME}: '{key}' must map module names to numbers", hint="save the adapter with a current PEFT"
        )
    for name, number in value.items():
        whole = type(number) is int or (key == "alpha_pattern" and type(number) is float and math.isfinite(number))
        if not whole or not 0 < number <= (MAX_RANK if key == "rank_pattern" else 1e6):
            _refuse(key, f"gives '{shown(name)}' no usable number", "save the adapter with a current PEFT")
        found.add(key, name, number, budget)
    return found


def _token_rows(value: Any) -> dict[str, tuple[int, ...]]:
    """Trained rows by embedding; a bare list means the model's input embedding, as in PEFT."""
    key = "trainable_token_indices"
    if is_off(value):
        return {}
    given = {"embed_tokens": value} if isinstance(value, list) else value
    if not isinstance(given, dict) or len(given) > 2 or not all(_NAME.fullmatch(name) for name in given):
        _refuse(key, "must list numbers of tokens", "save the adapter with a current PEFT")
    for rows in given.values():
        usable = isinstance(rows, list) and len(rows) <= _MAX_MODULES and len({*map(str, rows)}) == len(rows)
        if not usable or not all(type(row) is int and 0 <= row < 2**31 for row in rows):
            _refuse(key, "must list numbers of tokens, each once", "save the adapter with a current PEFT")
    return {name: tuple(rows) for name, rows in given.items()}
