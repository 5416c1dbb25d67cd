"""What the store tells of a model: read, looked at, or only listed."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from backdoor_audit.contract.digests import FileDigest, content_digest
from models_store.digests import FileKey
from models_store.errors import ModelRejected
from models_store.files import MiB, shown
from models_store.verification.strict_json import read_object
from models_store.verification.verify import Kind, VerifiedCheckpoint


@dataclass(frozen=True)
class Checkpoint:
    """A verified local folder.

    Attributes:
        path: the folder, links resolved.
        root: links of the checkpoint stay inside this folder; hand it to ``verify_checkpoint`` with the path.
        kind: a full model, or a LoRA adapter.
        architecture: ``model_type``; None for an adapter.
        files: the files that count, by name.
        digest: ``sha256:…`` over them.
        size_bytes: sum of their sizes.
        base_model_name: an adapter's own note of its base.
        base_digest: digest of the base that an adapter was made for, where one is recorded.
        state: which files were read: changes of their content, or others in their place, change it.
    """

    path: Path
    root: Path
    kind: Kind
    architecture: str | None
    files: tuple[FileDigest, ...]
    digest: str
    size_bytes: int
    base_model_name: str | None
    base_digest: str | None
    state: tuple[FileKey, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, verified: VerifiedCheckpoint, digests: Iterable[tuple[str, str]], state: tuple[FileKey, ...]) -> Self:
        """A checkpoint whose files have been read, with name and hexadecimal SHA-256 of each; ``state`` as it was
        before.
        """
        pairs = sorted(digests)
        return cls(
            path=verified.path,
            root=verified.root,
            kind=verified.kind,
            architecture=verified.architecture,
            files=tuple(FileDigest(name=name, sha256=sha256) for name, sha256 in pairs),
            digest=content_digest(pairs),
            size_bytes=verified.size_bytes,
            base_model_name=verified.base_model_name,
            base_digest=verified.base_digest,
            state=state,
        )

    def check_unchanged(self) -> None:
        """Check that its files are those that were read.

        Raises:
            ModelRejected: one of them has changed since, or another is in its place.
        """
        for key in self.state:
            try:
                now = FileKey.of(Path(key.path), Path(key.path).lstat())
            except OSError:
                now = None
            if now != key:
                raise ModelRejected(
                    f"{shown(Path(key.path).name)}: changed while it was audited",
                    hint="write the checkpoint first, then audit it",
                )


@dataclass(frozen=True)
class ModelInfo:
    """One model that the store can see.

    Attributes:
        reference: how to name it in an audit.
        name: the reference without its scheme.
        kind: a full model, or a LoRA adapter; None when it is refused.
        architecture: ``model_type``; None for an adapter or a refused one.
        size_bytes: sum of the files that count; 0 when it is refused.
        digest: None until the model was used once (digests of large files are not computed for a list).
        refused: why an audit of it would be refused; None when it would not.
    """

    reference: str
    name: str
    kind: Kind | None
    architecture: str | None
    size_bytes: int
    digest: str | None
    refused: str | None = None


@dataclass(frozen=True)
class CheckpointHeaders:
    """A checkpoint that was looked at, not read.

    Attributes:
        checkpoint: what its headers say.
        digest: None until the model was used once.
        width: of the residual stream; 0 for an adapter.
        blocks: how many there are; 0 for an adapter.
    """

    checkpoint: VerifiedCheckpoint
    digest: str | None
    width: int
    blocks: int

    @classmethod
    def of(cls, verified: VerifiedCheckpoint, digest: str | None) -> Self:
        """What the headers of a checkpoint and its ``config.json`` say.

        Raises:
            ModelRejected: its configuration cannot be read.
        """
        shape = next((file for file in verified.files if file.name == "config.json"), None)
        config = {} if shape is None else read_object(shape.path, shape.name, limit=1 * MiB)
        return cls(
            verified,
            digest,
            width=_whole(config, "hidden_size", "n_embd"),
            blocks=_whole(config, "num_hidden_layers", "n_layer"),
        )


def _whole(config: dict[str, Any], *names: str) -> int:
    """The first of these numbers that a configuration has; 0 where it has none."""
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        for name in names:
            if isinstance(part.get(name), int):
                return int(part[name])
    return 0
