"""The files of a checkpoint to be pushed: which of them, in which parts, and under which name."""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backdoor_audit.client.errors import WrongUsage

PART_BYTES: Final = 16 * 2**20
"""Bytes in one request, and so the most that a broken connection loses."""

_CHUNK_BYTES: Final = 4 * 2**20
_SUBFOLDER: Final = "additional_chat_templates"
_DOCUMENTS: Final = frozenset({".md", ".txt", ".rst", ".png", ".jpg", ".jpeg", ".svg", ".gif", ".webp", ".pdf"})


@dataclass(frozen=True)
class CheckpointFile:
    """One file of a checkpoint; ``name`` is its path in there, with ``/``."""

    name: str
    path: Path
    size: int
    sha256: str

    @property
    def digest_header(self) -> str:
        """The digest as ``Repr-Digest`` spells it."""
        return f"sha-256=:{base64.b64encode(bytes.fromhex(self.sha256)).decode()}:"

    def parts(self, start: int) -> Iterator[tuple[str | None, bytes]]:
        """From ``start`` on, each part's ``Content-Range`` and bytes; an empty file is one part without a range."""
        if self.size == 0:
            yield None, b""
            return
        with self.path.open("rb") as file:
            file.seek(start)
            while content := file.read(PART_BYTES):
                end = start + len(content)
                yield f"bytes {start}-{end - 1}/{self.size}", content
                start = end


def files_of(folder: Path, say: Callable[[str], None]) -> list[CheckpointFile]:
    """The files of a checkpoint that the service may want, with their digests.

    The service decides which of them it accepts. Skipped here, and named to ``say``, is only what no service opens:
    hidden files, documents, folders.

    Raises:
        WrongUsage: the folder holds no weights, or cannot be read.
    """
    try:
        files = [entry for entry in sorted(folder.iterdir()) if entry.is_file() and not entry.name.startswith(".")]
        templates = folder / _SUBFOLDER
        if templates.is_dir():
            files += sorted(entry for entry in templates.iterdir() if entry.suffix == ".jinja")
        taken = [path for path in files if path.name == "merges.txt" or path.suffix.lower() not in _DOCUMENTS]
        if not any(path.suffix == ".safetensors" for path in taken):
            raise WrongUsage(
                f"{folder} holds no safetensors file", hint="name a folder that holds a checkpoint saved as safetensors"
            )
        skipped = sorted(path.name for path in set(files) - set(taken))
        if skipped:
            say(f"Skipped, because nothing reads it: {', '.join(skipped)}")
        return [
            CheckpointFile(path.relative_to(folder).as_posix(), path, path.stat().st_size, _sha256(path))
            for path in taken
        ]
    except OSError as error:
        raise WrongUsage(f"{folder} cannot be read: {error.strerror}") from error


def name_for(folder: Path, files: list[CheckpointFile]) -> str:
    """A name for the store: the folder's name and a hash of the content, so the same for the same content."""
    word = re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("-._")[:60] or "model"
    content = "".join(f"{file.sha256}  {file.name}\n" for file in sorted(files, key=lambda file: file.name))
    return f"{word}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
