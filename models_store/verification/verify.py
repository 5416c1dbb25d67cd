"""Decides whether a checkpoint may be opened: from names, JSON and safetensors headers, before it is allocated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from models_store.errors import ModelRejected, ModelsIncompatible
from models_store.files import READ_FILES, FoundFile, MiB, default_root, scan, shown
from models_store.verification import adapters
from models_store.verification.adapters import AdapterShape
from models_store.verification.architectures import ARCHITECTURES
from models_store.verification.config_rules import check_config, check_generation_config
from models_store.verification.headers import Tensor, read_header, read_weights
from models_store.verification.strict_json import read_object
from models_store.verification.tensor_names import body_name, check_weights, modules
from models_store.verification.tokenizer_rules import check_tokenizer

Kind = Literal["full", "lora"]

_CARD: Final = "card.json"


@dataclass(frozen=True)
class VerifiedCheckpoint:
    """A checkpoint that may be opened.

    Attributes:
        path: the folder, links resolved.
        root: links of the checkpoint stay inside this folder.
        kind: a full model, or a LoRA adapter.
        architecture: ``model_type``; None for an adapter.
        files: what counts: everything that transformers or PEFT may read, sorted by name.
        size_bytes: sum of their sizes.
        n_parameters: elements of all tensors.
        dtypes: element types of the weights, the format's names, sorted.
        tensors: the header, all shards together.
        adapter: what an adapter adapts; None for a full model.
        base_digest: the digest of the base that an adapter was made for, where one is recorded.
    """

    path: Path
    root: Path
    kind: Kind
    architecture: str | None
    files: tuple[FoundFile, ...]
    size_bytes: int
    n_parameters: int
    dtypes: tuple[str, ...]
    tensors: Mapping[str, Tensor] = field(repr=False)
    adapter: AdapterShape | None = None
    base_digest: str | None = None

    @property
    def base_model_name(self) -> str | None:
        """An adapter's own note of its base: a hub name or a path, possibly of a machine long gone."""
        return None if self.adapter is None else self.adapter.base_model_name


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
    try:
        real = folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ModelRejected(f"{shown(folder.name)}: is not there", hint="point at a checkpoint's folder") from error
    if not real.is_dir():
        raise ModelRejected(f"{shown(folder.name)}: is no folder", hint="point at a checkpoint's folder")
    inside = default_root(real) if root is None else root.resolve()
    if not real.is_relative_to(inside):
        raise ModelRejected(f"{shown(folder.name)}: is a link out of the models' folder", hint="copy the checkpoint")
    files = scan(real, inside)
    names = {file.name for file in files}
    if adapters.CONFIG_NAME in names or adapters.WEIGHTS_NAME in names:
        return _verify_adapter(real, inside, files)
    if "config.json" not in names:
        raise ModelRejected(
            "config.json: is not there, nor is adapter_config.json",
            hint="point at the folder that holds the checkpoint",
        )
    return _verify_full(real, inside, files)


def check_pair(base: VerifiedCheckpoint, tuned: VerifiedCheckpoint) -> None:
    """Check that a fine-tuned checkpoint belongs to a base, as far as headers tell; digests are not compared here.

    Raises:
        ModelsIncompatible: the base is an adapter; the adapter's modules or shapes are not the base's; the full
            checkpoint has another architecture, or a tensor of another shape.
    """
    if base.kind != "full" or base.architecture is None:
        raise ModelsIncompatible("the base model is an adapter", hint="name a full checkpoint as the base model")
    if tuned.adapter is not None:
        there = {name: (out, into, block) for name, out, into, block in modules(base.architecture, base.tensors)}
        adapters.check_fit(tuned.adapter, there)
        return
    if tuned.architecture != base.architecture:
        raise ModelsIncompatible(
            f"the base is a {base.architecture} model, the fine-tuned one a {tuned.architecture} model",
            hint="name the base that the model was fine-tuned from",
        )
    names = ARCHITECTURES[base.architecture]
    shapes = {body_name(names, name): tensor.shape for name, tensor in base.tensors.items()}
    for name, tensor in tuned.tensors.items():
        shape = shapes.get(body_name(names, name), tensor.shape)
        if shape != tensor.shape:
            raise ModelsIncompatible(
                f"'{shown(name)}' has the shape {list(tensor.shape)}, in the base {list(shape)}",
                hint="name the base that the model was fine-tuned from",
            )


def _verify_full(folder: Path, root: Path, files: tuple[FoundFile, ...]) -> VerifiedCheckpoint:
    by_name = {file.name: file for file in files}
    shape = check_config(_read(by_name["config.json"]))
    if "generation_config.json" in by_name:
        check_generation_config(_read(by_name["generation_config.json"]))
    tensors = read_weights(files)
    check_weights(shape.model_type, tensors, shape.dims, shape.flags, shape.kinds)
    check_tokenizer(files, required=True)
    return _verified(folder, root, files, tensors, kind="full", architecture=shape.model_type)


def _verify_adapter(folder: Path, root: Path, files: tuple[FoundFile, ...]) -> VerifiedCheckpoint:
    by_name = {file.name: file for file in files}
    for name in (adapters.CONFIG_NAME, adapters.WEIGHTS_NAME):
        if name not in by_name:
            raise ModelRejected(f"{name}: is not there", hint="save the adapter with PEFT, as safetensors")
    for name in sorted(by_name):
        other_weights = name.endswith(".safetensors") and name != adapters.WEIGHTS_NAME
        if other_weights or name in ("config.json", "generation_config.json", "model.safetensors.index.json"):
            raise ModelRejected(
                f"{shown(name)}: stands beside {adapters.CONFIG_NAME}",
                hint="keep the adapter in a folder of its own; the model's files belong to the base",
            )
    config = _read(by_name[adapters.CONFIG_NAME])
    header = read_header(by_name[adapters.WEIGHTS_NAME].path, adapters.WEIGHTS_NAME)
    adapter = adapters.check_adapter(config, header.tensors)
    check_tokenizer(files, required=False)
    digest = adapters.recorded_base_digest(header.metadata, _card(folder, root))
    return _verified(
        folder, root, files, header.tensors, kind="lora", architecture=None, adapter=adapter, base_digest=digest
    )


def _verified(
    folder: Path,
    root: Path,
    files: tuple[FoundFile, ...],
    tensors: Mapping[str, Tensor],
    *,
    kind: Kind,
    architecture: str | None,
    adapter: AdapterShape | None = None,
    base_digest: str | None = None,
) -> VerifiedCheckpoint:
    elements = 0
    for tensor in tensors.values():
        size = 1
        for dimension in tensor.shape:
            size *= dimension
        elements += size
    return VerifiedCheckpoint(
        path=folder,
        root=root,
        kind=kind,
        architecture=architecture,
        files=files,
        size_bytes=sum(file.size for file in files),
        n_parameters=elements,
        dtypes=tuple(sorted({tensor.dtype for tensor in tensors.values()})),
        tensors=tensors,
        adapter=adapter,
        base_digest=base_digest,
    )


def _read(file: FoundFile) -> dict[str, Any]:
    return read_object(file.path, file.name, limit=READ_FILES[file.name])


def _card(folder: Path, root: Path) -> dict[str, Any]:
    """card.json, which may record the base's digest; its other keys are the author's own."""
    path = folder / _CARD
    if not path.exists():
        return {}
    real = path.resolve()
    if not real.is_relative_to(root):
        raise ModelRejected(f"{_CARD}: is a link out of the models' folder", hint="put a copy of the file in its place")
    return read_object(real, _CARD, limit=1 * MiB, depth=None)
