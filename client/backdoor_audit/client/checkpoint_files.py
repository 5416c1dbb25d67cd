"""The files of a checkpoint to be pushed: which ones, in which parts, and under which name."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from backdoor_audit.client.errors import OtherContent, WrongUsage
from backdoor_audit.client.responses import Model
from backdoor_audit.contract.checkpoint_files import (
    CARD,
    INDEX,
    LIMITS,
    TEMPLATE_FOLDER,
    counting,
    is_adapter,
    placed_shards,
    whole_weights,
)
from backdoor_audit.contract.digests import content_digest

PART_BYTES: Final = 16 * 2**20
"""Bytes per request, and so the most that a broken connection can lose."""

_CHUNK_BYTES: Final = 4 * 2**20


@dataclass(frozen=True)
class CheckpointFile:
    """One file of a checkpoint; ``name`` is its relative path, with ``/``."""

    name: str
    path: Path
    size: int
    sha256: str

    @property
    def digest_header(self) -> str:
        """The digest as ``Repr-Digest`` spells it."""
        return f"sha-256=:{base64.b64encode(bytes.fromhex(self.sha256)).decode()}:"

    def parts(self, start: int) -> Iterator[tuple[str | None, bytes]]:
        """Each part's ``Content-Range`` and bytes, from ``start`` on; an empty file is one part without a range."""
        if self.size == 0:
            yield None, b""
            return
        with self.path.open("rb") as file:
            file.seek(start)
            while content := file.read(PART_BYTES):
                end = start + len(content)
                yield f"bytes {start}-{end - 1}/{self.size}", content
                start = end


@dataclass(frozen=True)
class FolderFiles:
    """The files of a folder, by their relative paths, and which of them make up the checkpoint."""

    paths: Mapping[str, Path]
    counted: frozenset[str]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Look at a folder.

        Raises:
            OSError: it cannot be read.
        """
        found = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
        templates = folder / TEMPLATE_FOLDER
        if templates.is_dir():
            found |= {f"{TEMPLATE_FOLDER}/{path.name}": path for path in sorted(templates.iterdir()) if path.is_file()}
        return cls(found, counting(found.keys(), _placed(found.get(INDEX))))


def files_of(folder: Path, say: Callable[[str], None]) -> list[CheckpointFile]:
    """The files that make up a checkpoint, with their digests; ``say`` is told what is ignored.

    Raises:
        WrongUsage: the folder holds no weights, an adapter and a whole model, or cannot be read.
    """
    try:
        here = FolderFiles.of(folder)
        found, taken = here.paths, here.counted
        if not any(name.endswith((".safetensors", ".gguf")) for name in taken):
            raise WrongUsage(
                f"{folder} holds no safetensors or GGUF file",
                hint="name a folder that holds a checkpoint saved as safetensors",
            )
        if is_adapter(found.keys()) and (whole := whole_weights(found)):
            raise WrongUsage(
                f"{folder} holds an adapter and the weights of a whole model ({whole[0]}); it is not clear which one "
                "is meant",
                hint="keep the adapter in a folder of its own",
            )
        chosen = sorted(taken | ({CARD} & found.keys()))
        ignored = sorted(found.keys() - set(chosen))
        if ignored:
            say(f"Ignored, because no model is read from it: {', '.join(ignored)}")
        return [
            CheckpointFile(name, found[name], found[name].stat().st_size, sha256_of(found[name])) for name in chosen
        ]
    except OSError as error:
        raise WrongUsage(f"{folder} cannot be read: {error.strerror}") from error


def _placed(index: Path | None) -> set[str]:
    """The shards that an index names; none if it is unusable, which the service refuses where it counts."""
    if index is None or index.stat().st_size > LIMITS[INDEX]:
        return set()
    try:
        return {*placed_shards(json.loads(index.read_bytes())).values()}
    except ValueError:
        return set()


def name_for(folder: Path, files: list[CheckpointFile]) -> str:
    """A name for the store: the folder's name and a hash of the content, so the same for the same content."""
    word = re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("-._")[:60] or "model"
    content = "".join(f"{file.sha256}  {file.name}\n" for file in sorted(files, key=lambda file: file.name))
    return f"{word}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def check_content(model: Model, files: list[CheckpointFile]) -> None:
    """Compare what the service says it has with what was to be pushed: a name alone proves nothing.

    Raises:
        OtherContent: the model in the store is a different one, or its digest is not given.
    """
    digest = content_digest((file.name, file.sha256) for file in files if file.name != CARD)
    if model.digest != digest:
        raise OtherContent(
            f"store:{model.name} is not the folder that was pushed: "
            f"its content is {model.digest or 'without a digest'}, the folder's {digest}",
            hint="do not audit it; push under a new name (models push FOLDER --name NAME), find out who committed the "
            "other model, and if it is yours, compare the versions of client and service",
        )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; it is read in pieces."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
