"""Decides whether a checkpoint may be opened: from names, JSON and safetensors headers, before it is allocated."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from backdoor_audit.contract.checkpoint_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CARD,
    CONFIG,
    GGUF_SOURCES,
    INDEX,
    LIMITS,
    QUANTISED_SOURCES,
    WEIGHTS,
    is_adapter,
    whole_weights,
)
from backdoor_audit.contract.checkpoint_settings import (
    GENERATION,
    PROCESSORS,
    SETTINGS_FILES,
    SPECIAL_TOKENS,
    TOKENIZER_CONFIG,
    CheckpointSettings,
)
from models_store.errors import ModelRejected
from models_store.files import FoundFile, Listing, MiB, default_root, listing, open_regular, shown
from models_store.verification.adapters import header as adapters
from models_store.verification.adapters.header import AdapterShape
from models_store.verification.config_rules import check_config
from models_store.verification.gguf import GgufTensor, read_parts, require_one_model
from models_store.verification.gguf_models import gguf_model
from models_store.verification.headers import Tensor, placed_shards, read_header, read_weights
from models_store.verification.quantised import KEY as QUANTISATION
from models_store.verification.quantised import read_scheme, unpacked
from models_store.verification.rewriting import (
    Rewritten,
    listed,
    rewrite_config,
    rewrite_generation_config,
    rewrite_processor,
    rewrite_special_tokens,
    rewrite_tokenizer_config,
)
from models_store.verification.strict_json import read_object
from models_store.verification.tensor_names import check_weights, is_transposed, text_part
from models_store.verification.tokenizer_rules import check_processors, check_tokenizer

Kind = Literal["full", "lora"]
Problems = list[ModelRejected]
_Result = TypeVar("_Result")

_REWRITE: Final[dict[str, Callable[[Mapping[str, Any]], Rewritten]]] = {
    CONFIG: rewrite_config,
    GENERATION: rewrite_generation_config,
    TOKENIZER_CONFIG: rewrite_tokenizer_config,
    SPECIAL_TOKENS: rewrite_special_tokens,
    **dict.fromkeys(PROCESSORS, rewrite_processor),
}


@dataclass(frozen=True)
class VerifiedCheckpoint:
    """A checkpoint that may be opened, through its private view.

    Attributes:
        path: the folder, links resolved.
        root: links of the checkpoint stay inside this folder.
        kind: a full model, or a LoRA adapter.
        architecture: ``model_type``; None for an adapter.
        files: what counts, sorted by name.
        ignored: what does not; of a folder only its name, with a slash.
        documents: JSON that the view has in place of the files of these names.
        rewritten: what is different in there, a sentence each.
        warnings: what an audit's reader must know, a sentence each.
        size_bytes: sum of the sizes of ``files``.
        n_parameters: elements of all tensors.
        dtypes: element types of the weights, the format's names, sorted.
        tensors: the header, all shards together.
        settings: chat templates, special tokens and generation settings.
        adapter: what an adapter adapts; None for a full model.
        base_digest: the digest of the base that an adapter was made for, where one is recorded.
        tokenizer_parts: a digest of each part of tokenizer.json that decides about tokens.
    """

    path: Path
    root: Path
    kind: Kind
    architecture: str | None
    files: tuple[FoundFile, ...]
    ignored: tuple[str, ...]
    documents: Mapping[str, Mapping[str, Any]] = field(repr=False)
    rewritten: tuple[str, ...]
    warnings: tuple[str, ...]
    size_bytes: int
    n_parameters: int
    dtypes: tuple[str, ...]
    tensors: Mapping[str, Tensor] = field(repr=False)
    settings: CheckpointSettings = field(repr=False)
    adapter: AdapterShape | None = None
    base_digest: str | None = None
    tokenizer_parts: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def base_model_name(self) -> str | None:
        """An adapter's own note of its base: a hub name or a path, possibly of a machine long gone."""
        return None if self.adapter is None else self.adapter.base_model_name

    @property
    def has_tokenizer(self) -> bool:
        """Whether it brings a tokenizer; a base must."""
        return self.file("tokenizer.json") is not None

    def file(self, name: str) -> FoundFile | None:
        """A file that counts, by its name."""
        return next((file for file in self.files if file.name == name), None)


@dataclass(frozen=True)
class Examination:
    """All that is wrong with a folder at once, and what could be read all the same.

    Attributes:
        problems: why it is refused, in the order of the checks; empty when it is taken.
        kind: what it is, or was meant to be.
        ignored: what does not count.
        checkpoint: None if it is refused.
    """

    problems: tuple[ModelRejected, ...]
    kind: Kind | None
    ignored: tuple[str, ...]
    checkpoint: VerifiedCheckpoint | None


def verify_checkpoint(folder: Path, root: Path | None = None) -> VerifiedCheckpoint:
    """Check a folder that holds a full model or a LoRA adapter.

    Opens JSON files and the headers of safetensors files, nothing else; imports neither torch nor transformers.

    Args:
        folder: the checkpoint.
        root: links may lead anywhere inside this folder; by default the checkpoint itself, or the hub repository of a
            ``snapshots/<commit>`` folder.

    Raises:
        ModelRejected: something that is not allowed; the message names the file and the key or tensor.
    """
    examination = examine(folder, root)
    if examination.checkpoint is None:
        raise examination.problems[0]
    return examination.checkpoint


def examine(folder: Path, root: Path | None = None, *, view: bool = False) -> Examination:
    """Check a folder as ``verify_checkpoint`` does, and continue after the first problem.

    Args:
        folder: the checkpoint.
        root: as for ``verify_checkpoint``.
        view: whether the folder is a private view, which lies outside of ``root`` while its links lead into it.
    """
    try:
        real, inside = _located(folder, root, view=view)
        files = listing(real, inside)
        placed = {} if is_adapter(files.names) else _placed(files)
        counted = files.counting(frozenset(placed.values()))
    except ModelRejected as error:
        return Examination((error,), None, (), None)
    return _Examiner(real, inside, files, counted, placed).examine()


def verify_view(folder: Path, root: Path) -> VerifiedCheckpoint:
    """Check a private view again, whose links must lead into ``root``.

    Raises:
        ModelRejected: as ``verify_checkpoint``.
    """
    examination = examine(folder, root, view=True)
    if examination.checkpoint is None:
        raise examination.problems[0]
    return examination.checkpoint


def _located(folder: Path, root: Path | None, *, view: bool) -> tuple[Path, Path]:
    try:
        real = folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ModelRejected(f"{shown(folder.name)}: is not there", hint="point at a checkpoint's folder") from error
    if not real.is_dir():
        raise ModelRejected(f"{shown(folder.name)}: is not a folder", hint="point at a checkpoint's folder")
    inside = default_root(real) if root is None else root.resolve()
    if not view and not real.is_relative_to(inside):
        raise ModelRejected(f"{shown(folder.name)}: is a link out of the models' folder", hint="copy the checkpoint")
    return real, inside


def _by_number(name: str) -> tuple[tuple[str, int], ...]:
    """Orders ``checkpoint-9`` before ``checkpoint-10``."""
    return tuple((word, int(number or 0)) for word, number in re.findall(r"(\D*)(\d{0,18})", name))


def _placed(files: Listing) -> Mapping[str, str]:
    """Which shard each tensor is in; an index that is unusable is nobody's beside ``model.safetensors``."""
    try:
        return placed_shards(files.named(INDEX))
    except ModelRejected:
        if WEIGHTS not in files.names:
            raise
        return {}


class _Examiner:
    """Runs the checks of one folder and collects what they say."""

    def __init__(
        self, folder: Path, root: Path, files: Listing, counted: tuple[FoundFile, ...], placed: Mapping[str, str]
    ) -> None:
        self._folder, self._root, self._all, self._counted, self._placed = folder, root, files, counted, placed
        self._by_name = {file.name: file for file in counted}
        self._problems: Problems = []
        self._documents: dict[str, Mapping[str, Any]] = {}
        self._settings: dict[str, Mapping[str, Any]] = {}
        self._templates: Mapping[str, str] = {}
        self._rewritten: list[str] = []
        self._warnings: list[str] = []
        self._ignored = files.ignored(counted)
        self._tokenizer_parts: Mapping[str, str] = {}

    def examine(self) -> Examination:
        """Check everything."""
        kind: Kind | None = None
        checkpoint = None
        if is_adapter(self._all.names):
            kind, checkpoint = "lora", self._adapter()
        elif packed := [name for name in self._by_name if name.endswith(".gguf")]:
            kind, checkpoint = "full", self._gguf(packed)
        elif CONFIG in self._by_name:
            kind, checkpoint = "full", self._full()
        else:
            self._problems.append(self._no_checkpoint())
        problems = tuple(self._problems)
        return Examination(problems, kind, self._ignored, None if problems else checkpoint)

    def _try(self, check: Callable[[], _Result]) -> _Result | None:
        try:
            return check()
        except ModelRejected as error:
            self._problems.append(error)
            return None

    def _document(self, name: str) -> dict[str, Any]:
        """A JSON file as it was rewritten; empty if there is none, or where it cannot be read."""
        raw = self._try(lambda: self._read(name)) if name in self._by_name else None
        if raw is None:
            return {}
        result = _REWRITE[name](raw)
        # Not by ==, to which 16.0 is 16: transformers tells them apart.
        if json.dumps(result.document) != json.dumps(raw):
            self._documents[name] = result.document
        self._rewritten.extend(result.notes)
        self._warnings.extend(result.warnings)
        return result.document

    def _read(self, name: str) -> dict[str, Any]:
        return read_object(self._by_name[name].path, name, limit=LIMITS[name])

    def _tokenizer(self) -> None:
        """The tokenizer's files, and all that decides how the model is asked."""
        for name in SETTINGS_FILES:
            if name in self._by_name:
                self._settings[name] = self._document(name)
        config, special = (self._settings.get(name, {}) for name in (TOKENIZER_CONFIG, SPECIAL_TOKENS))
        self._try(lambda: check_processors(self._settings))
        found = self._try(lambda: check_tokenizer(self._counted, config, special))
        self._tokenizer_parts, self._templates = found or ({}, {})

    def _full(self) -> VerifiedCheckpoint | None:
        before = len(self._problems)
        config = self._document(CONFIG)
        given = config.get(QUANTISATION)
        plain = {key: value for key, value in config.items() if key != QUANTISATION}
        shape = None if len(self._problems) > before else self._try(lambda: check_config(plain))
        held: Mapping[str, Tensor] | None = self._try(self._weights)
        tensors = held
        if given is not None and shape is not None:
            model_type, header = shape.model_type, tensors
            tensors = self._try(lambda: self._unpacked(model_type, given, plain, header))
        if shape is not None and tensors is not None:
            text = tensors = text_part(shape.model_type, tensors)
            self._try(lambda: check_weights(shape.model_type, text, shape.dims, shape.flags, shape.kinds, self._placed))
        self._tokenizer()
        if INDEX in self._by_name:
            self._index(held)
        if shape is None or tensors is None:
            return None
        return self._verified(tensors, kind="full", architecture=shape.model_type)

    def _index(self, held: Mapping[str, Tensor] | None) -> None:
        """The index as the view has it: what the shards hold, and no notes."""
        placed = self._placed if held is None else {name: tensor.file for name, tensor in held.items()}
        self._documents[INDEX] = {"metadata": {}, "weight_map": dict(placed)}
        if absent := self._placed.keys() - placed.keys():
            self._rewritten.append(f"{INDEX}: dropped {listed(absent)}, which no shard holds")

    def _unpacked(
        self, model_type: str, given: Any, config: Mapping[str, Any], tensors: Mapping[str, Tensor] | None
    ) -> Mapping[str, Tensor] | None:
        """The header of a quantised model as it is once it is unpacked; how to do it goes into the view."""
        scheme = read_scheme(given)
        if tensors is None:
            return None
        result = unpacked(scheme, tensors, self._bytes_of, lambda name: is_transposed(model_type, name))
        self._documents[CONFIG] = {**config, QUANTISATION: scheme.document}
        self._documents[QUANTISED_SOURCES] = {"tensors": text_part(model_type, result.sources)}
        rounded = "; activations that are rounded when it is served were not" if scheme.rounds_activations else ""
        self._warnings.append(f"its weights are {scheme.form}, and were dequantised to be audited{rounded}")
        return result.tensors

    def _bytes_of(self, tensor: Tensor | GgufTensor) -> bytes:
        """The bytes of a small tensor, which describes another."""
        with open_regular(self._by_name[tensor.file].path, tensor.file) as file:
            file.seek(tensor.start)
            return file.read(tensor.stop - tensor.start)

    def _gguf(self, packed: list[str]) -> VerifiedCheckpoint | None:
        """A model in a GGUF file: its configuration and its chat template stand in the file."""
        parts = self._try(lambda: require_one_model(packed))
        if parts is None:
            return None
        name, files = parts[0], [(self._by_name[part].path, part) for part in parts]
        model = self._try(lambda: gguf_model(read_parts(files), name, self._bytes_of))
        shape = None if model is None else self._try(lambda: check_config(model.config))
        if model is not None and shape is not None:
            self._try(lambda: check_weights(shape.model_type, model.tensors, shape.dims, shape.flags, shape.kinds))
        if model is not None and TOKENIZER_CONFIG not in self._by_name:
            self._settings[TOKENIZER_CONFIG] = model.tokenizer_config
            self._documents[TOKENIZER_CONFIG] = model.tokenizer_config
        self._tokenizer()
        if model is None or shape is None:
            return None
        self._documents[CONFIG] = model.config
        self._documents[GGUF_SOURCES] = {"tensors": model.sources, "tokens": model.tokens}
        self._warnings.append(f"its weights are {model.form}, and were dequantised to be audited")
        for beside in self._ignored:
            if beside.endswith(".gguf") and "mmproj" in beside:
                self._warnings.append(f"{shown(beside)}: what the model does with images was not audited")
        return self._verified(model.tensors, kind="full", architecture=shape.model_type)

    def _weights(self) -> dict[str, Tensor]:
        if not any(name.endswith(".safetensors") for name in self._by_name):
            self._refuse_pickles(("pytorch_model", "model", "consolidated"))
        return read_weights(self._counted, self._placed)

    def _adapter(self) -> VerifiedCheckpoint | None:
        for name in whole_weights(self._all.names):
            self._problems.append(
                ModelRejected(
                    f"{shown(name)}: stands beside {ADAPTER_CONFIG}; whether the adapter or the whole model is meant "
                    "is not known",
                    hint="keep the adapter in a folder of its own",
                )
            )
        if ADAPTER_WEIGHTS not in self._by_name:
            self._try(lambda: self._refuse_pickles(("adapter_model",)))
        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            if name not in self._by_name and not self._problems:
                self._problems.append(ModelRejected(f"{name}: is not there", hint="save the adapter with PEFT"))
        config = self._try(lambda: self._read(ADAPTER_CONFIG)) if ADAPTER_CONFIG in self._by_name else None
        weights = self._by_name.get(ADAPTER_WEIGHTS)
        header = None if weights is None else self._try(lambda: read_header(weights.path, ADAPTER_WEIGHTS))
        adapter = digest = None
        if config is not None and header is not None:
            adapter = self._try(lambda: adapters.check_adapter(config, header.tensors))
        if header is not None:
            digest = self._try(lambda: adapters.recorded_base_digest(header.metadata, self._card()))
        self._tokenizer()
        if adapter is None or header is None:
            return None
        self._documents[ADAPTER_CONFIG] = adapters.view_document(adapter)
        self._rewritten.extend(adapter.notes)
        return self._verified(header.tensors, kind="lora", architecture=None, adapter=adapter, base_digest=digest)

    def _card(self) -> dict[str, Any]:
        """card.json, which may record the base's digest; its other keys are the author's own."""
        card = self._all.named(CARD)
        return {} if card is None else read_object(card.path, CARD, limit=1 * MiB, depth=None)

    def _refuse_pickles(self, names: tuple[str, ...]) -> None:
        """Refuse weights that are there only as a pickle."""
        for name in sorted(self._all.names):
            if name.startswith(names) and name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl")):
                raise ModelRejected(
                    f"{shown(name)}: the weights are there only as a pickle, and pickles can run code",
                    hint="save them as safetensors: save_pretrained(folder, safe_serialization=True)",
                )

    def _no_checkpoint(self) -> ModelRejected:
        ends = (f"/{CONFIG}", f"/{ADAPTER_CONFIG}")
        below = sorted({name.rpartition("/")[0] for name in self._all.names if name.endswith(ends)}, key=_by_number)
        hint = f"point at the folder {shown(below[-1])} inside it" if below else "point at a checkpoint's own folder"
        if whole := whole_weights(self._all.names):
            return ModelRejected(
                f"{CONFIG}: is not there, and without it nobody knows what model the weights in {shown(whole[0])} are",
                hint="copy config.json from the base, as Accelerate's save_model and save_state write weights alone",
            )
        return ModelRejected(f"{CONFIG}: is not there, nor is {ADAPTER_CONFIG}", hint=hint)

    def _verified(
        self,
        tensors: Mapping[str, Tensor],
        *,
        kind: Kind,
        architecture: str | None,
        adapter: AdapterShape | None = None,
        base_digest: str | None = None,
    ) -> VerifiedCheckpoint:
        return VerifiedCheckpoint(
            path=self._folder,
            root=self._root,
            kind=kind,
            architecture=architecture,
            files=self._counted,
            ignored=self._ignored,
            documents=self._documents,
            rewritten=tuple(self._rewritten),
            warnings=tuple(self._warnings),
            size_bytes=sum(file.size for file in self._counted),
            n_parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
            dtypes=tuple(sorted({tensor.dtype for tensor in tensors.values()})),
            tensors=tensors,
            # What was refused on the way is in the problems, and then this is not asked for.
            settings=CheckpointSettings() if self._problems else CheckpointSettings.of(self._settings, self._templates),
            adapter=adapter,
            base_digest=base_digest,
            tokenizer_parts=self._tokenizer_parts,
        )
