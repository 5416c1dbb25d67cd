"""LoRA adapters: the header of the weights held against adapter_config.json."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from backdoor_audit.contract.checkpoint_files import ADAPTER_WEIGHTS as WEIGHTS_NAME
from models_store.errors import ModelRejected
from models_store.files import shown
from models_store.verification.adapters.config import (
    CONFIG_NAME,
    MAX_RANK,
    MERGE,
    AdapterConfig,
    endings,
    read_adapter_config,
)
from models_store.verification.adapters.tensors import PREFIX, AdapterTensors, refuse, sort_tensors
from models_store.verification.architectures import ARCHITECTURES
from models_store.verification.headers import Tensor
from models_store.verification.rewriting import listed
from models_store.verification.tensor_names import text_name

HEADS: Final = frozenset(names.head[0][0].removesuffix(".weight") for names in ARCHITECTURES.values())
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_BELONG: Final = "config and weights must belong together: save the adapter again"


@dataclass(frozen=True)
class AdapterShape:
    """What an adapter's configuration and header say.

    Attributes:
        config: the configuration.
        modules: every adapted linear module: its name in the base, sizes of its output and input.
        embeddings: every adapted embedding: its name in the base, its rows and their width.
        copies: copies of the base's own weights, by the module's name; their bytes must be the base's.
        trained: weights that take the place of the base's, by their full names in the base.
        trained_modules: the modules that were trained whole.
        token_rows: shape of the trained rows of each embedding, by its name, and the highest of their numbers.
        notes: what a reader of the adapter may want to know, a sentence each.
    """

    config: AdapterConfig
    modules: Mapping[str, tuple[int, int]]
    embeddings: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    copies: Mapping[str, Tensor] = field(default_factory=dict)
    trained: Mapping[str, Tensor] = field(default_factory=dict)
    trained_modules: tuple[str, ...] = ()
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
    tensors, known = _of_the_text_part(tensors, known)
    found = sort_tensors(tensors, known)
    if not found.factors and not found.embedding_factors:
        refuse("adapts no module", "save the adapter again")
    # With ensure_weight_tying, PEFT adapts a tied head along with the embedding and writes its factors down.
    tied = HEADS if known.tied and found.embedding_factors else frozenset()
    modules = {module: _module(module, parts, known, tied) for module, parts in found.factors.items()}
    # The factors of an embedding are stored the other way round: [rank, rows] and [width, rank].
    turned = {module: _module(module, parts, known) for module, parts in found.embedding_factors.items()}
    embeddings = {module: (into, out) for module, (out, into) in turned.items()}
    for module in sorted(found.copies.keys() - modules.keys() - embeddings.keys() - found.rows.keys()):
        refuse(f"holds a copy of the base's '{shown(module)}', which it does not adapt", MERGE)
    return AdapterShape(
        known,
        modules,
        embeddings,
        found.copies,
        found.trained,
        tuple(sorted(found.modules)),
        _token_rows(found.rows, known),
        (*known.notes, *_unmatched(known, {**modules, **embeddings}), *_unsaved(known, found)),
    )


def _of_the_text_part(
    tensors: Mapping[str, Tensor], known: AdapterConfig
) -> tuple[Mapping[str, Tensor], AdapterConfig]:
    """An adapter of a model with several parts as one of its text part: names of modules are those of a text model.

    Targets and patterns of the configuration are matched with the names that the adapter has, unless they are those of
    the text part already, as in a private view.
    """
    inner = {name: name.removeprefix(PREFIX) for name in tensors}
    plain = {name: f"{PREFIX}{text_name(rest)}" for name, rest in inner.items() if name != rest}
    renamed = {plain.get(name, name): tensor for name, tensor in tensors.items()}
    if renamed.keys() == tensors.keys():
        return tensors, known
    if len(renamed) != len(tensors):
        refuse("adapts a module under two names", "save the adapter again")
    own = {text_name(rest): rest for rest in (name.partition(".lora_")[0] for name in inner.values())}
    if not any(known.targets(module) for module in own.values()):
        return renamed, known

    def own_name(module: str) -> str:
        return own.get(module, module)

    return renamed, replace(
        known,
        targets=lambda module: known.targets(own_name(module)),
        rank_of=lambda module: known.rank_of(own_name(module)),
        alpha_of=lambda module: known.alpha_of(own_name(module)),
    )


def view_document(adapter: AdapterShape) -> dict[str, Any]:
    """adapter_config.json as PEFT will read it: modules by their full names, no pattern, nothing that is off."""
    known = adapter.config
    modules = sorted({**adapter.modules, **adapter.embeddings})
    alphas = {module: known.alpha_of(module) for module in modules}
    common = max({*alphas.values()}, key=[*alphas.values()].count)
    document: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": known.base_model_name,
        "inference_mode": True,
        "bias": known.bias,
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
    if known.factor_bias:
        document["lora_bias"] = True
    if adapter.trained_modules:
        document["modules_to_save"] = list(adapter.trained_modules)
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


def _module(
    module: str, parts: Mapping[str, Tensor], known: AdapterConfig, tied: frozenset[str] = frozenset()
) -> tuple[int, int]:
    """Output and input size of an adapted module."""
    if not known.targets(module) and module not in tied:
        refuse(f"'{shown(module)}' is not a module that {CONFIG_NAME} targets", _BELONG)
    needed = ("A", "B", *(("magnitude",) if known.dora else ()), *(("bias",) if known.factor_bias else ()))
    for side in needed:
        if side not in parts:
            name = {"magnitude": "lora_magnitude_vector", "bias": "lora_B.bias"}.get(side, f"lora_{side}")
            refuse(f"{name} of '{shown(module)}' is not there", "save the adapter again")
    down, up = parts["A"].shape, parts["B"].shape
    rank = known.rank_of(module)
    if down[0] != rank or up[1] != rank or rank > MAX_RANK:
        refuse(
            f"the factors of '{shown(module)}' have the shapes {list(down)} and {list(up)}, {CONFIG_NAME} says rank "
            f"{rank}",
            _BELONG,
        )
    for part, there in (("magnitude", known.dora), ("bias", known.factor_bias)):
        if there and math.prod(parts[part].shape) != up[0]:
            refuse(f"the {part} of '{shown(module)}' has another length than its output", _BELONG)
    return up[0], down[1]


def _token_rows(rows: Mapping[str, Tensor], known: AdapterConfig) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shape and highest number of the trained rows of each embedding."""
    found: dict[str, tuple[tuple[int, ...], int]] = {}
    for module, tensor in rows.items():
        numbers = next((known.token_rows[end] for end in endings(module) if end in known.token_rows), None)
        if numbers is None and len(known.token_rows) == 1:
            numbers = next(iter(known.token_rows.values()))  # a bare list: the input embedding, whatever its name
        if numbers is None or len(tensor.shape) != 2 or tensor.shape[0] != len(numbers):
            refuse(f"trains other rows of '{shown(module)}' than {CONFIG_NAME} lists", _BELONG)
        found[module] = (tensor.shape, max(numbers or (0,)))
    if known.token_rows and not found:
        refuse(f"has no rows for the tokens that {CONFIG_NAME} lists", _BELONG)
    return found


def _unmatched(known: AdapterConfig, modules: Mapping[str, Any]) -> Iterator[str]:
    """Names on the list of targets that no module of the weights ends in."""
    adapted = {end for module in modules for end in endings(module)}
    missing = [name for name in known.named or () if name not in adapted]
    if missing:
        yield f"{CONFIG_NAME}: nothing is adapted by the targets {listed(missing)}"


def _unsaved(known: AdapterConfig, found: AdapterTensors) -> Iterator[str]:
    """Names in ``modules_to_save`` that no trained module ends in."""
    missing = [name for name in known.saved if not any(module.endswith(name) for module in found.modules)]
    if missing:
        quoted = ", ".join(f"'{shown(name)}'" for name in missing[:5])
        yield f"{CONFIG_NAME}: no weights are saved for 'modules_to_save' {quoted}" + (
            " and more" if missing[5:] else ""
        )
