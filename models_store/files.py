"""Listing a checkpoint's folder without opening anything: which files count, which are ignored, what is refused."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from backdoor_audit.contract.checkpoint_files import CARD, LIMITS, counting, is_template, limit_of
from models_store.errors import ModelRejected

MiB: Final = 1024**2
GiB: Final = 1024**3
MAX_TOTAL_BYTES: Final = 200 * GiB
MAX_ENTRIES: Final = 5_000
MAX_DEPTH: Final = 6

# Bookkeeping of git and of the hub's downloader.
_SKIPPED_FOLDERS: Final = frozenset({".git", ".cache"})
_POINTER: Final = b"version https://git-lfs"
_PLAIN_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_HUB_SNAPSHOT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class FoundFile:
    """A regular file of a checkpoint.

    Attributes:
        name: path relative to the checkpoint, with ``/``.
        path: the real file, links resolved.
        size: bytes.
    """

    name: str
    path: Path
    size: int


@dataclass(frozen=True)
class Listing:
    """Every regular file below a folder, sorted by name; nothing has been opened."""

    files: tuple[FoundFile, ...]

    def named(self, name: str) -> FoundFile | None:
        """The file of that name, or None."""
        return next((file for file in self.files if file.name == name), None)

    @property
    def names(self) -> frozenset[str]:
        """Paths of all files, relative to the folder."""
        return frozenset(file.name for file in self.files)

    def counting(self, placed: frozenset[str]) -> tuple[FoundFile, ...]:
        """The files that make up the checkpoint, given the shards that its index names.

        Raises:
            ModelRejected: one of them is too large, or all are together.
        """
        chosen = counting(self.names, placed)
        files = tuple(file for file in self.files if file.name in chosen)
        for file in files:
            _refuse_by_size(file)
        total = sum(file.size for file in files)
        if total > MAX_TOTAL_BYTES:
            raise ModelRejected(
                f"the checkpoint has {total} bytes, more than {MAX_TOTAL_BYTES}", hint="audit a smaller checkpoint"
            )
        return files

    def ignored(self, files: tuple[FoundFile, ...]) -> tuple[str, ...]:
        """What does not count; of a folder only its name, with a slash."""
        counted = {file.name for file in files}
        left = [file.name for file in self.files if file.name not in counted]
        folders = {name.partition("/")[0] + "/" for name in left if "/" in name}
        return tuple(sorted({*(name for name in left if "/" not in name), *folders}))


def shown(text: str, limit: int = 80) -> str:
    """``text`` for a message: printable ASCII, cut at ``limit``; it comes from a file nobody trusts."""
    plain = text.encode("ascii", "backslashreplace").decode("ascii")
    plain = "".join(character if character.isprintable() else "?" for character in plain)
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


def default_root(folder: Path) -> Path:
    """The folder that links of a checkpoint may not leave: the hub repository's for a snapshot, otherwise its own.

    The hub's cache keeps ``models--org--repo/snapshots/<commit>/file`` as links into ``models--org--repo/blobs``.
    """
    snapshots = folder.parent
    repository = snapshots.parent
    if (
        snapshots.name == "snapshots"
        and repository.name.startswith("models--")
        and _HUB_SNAPSHOT.fullmatch(folder.name)
    ):
        return repository
    return folder


def listing(folder: Path, root: Path) -> Listing:
    """List a checkpoint's folder.

    Args:
        folder: the checkpoint, links resolved.
        root: links may not lead out of this folder.

    Raises:
        ModelRejected: a link out of ``root``, something that is no regular file, folders nested too deep, or too many
            entries. The entry is named.
    """
    found = [FoundFile(name, path, status.st_size) for name, path, status in _walk(folder, root)]
    return Listing(tuple(sorted(found, key=lambda file: file.name)))


def takes(path: str) -> None:
    """Refuse a path that no file of an uploaded checkpoint may have.

    Raises:
        ModelRejected: a path that leads elsewhere, or a file that no checkpoint is read from.
    """
    parts = path.split("/")
    if not 0 < len(path) <= 200 or any(_PLAIN_PART.fullmatch(part) is None for part in parts):
        raise ModelRejected(
            f"{shown(path)}: is not a usable name for a file of a checkpoint",
            hint="use letters, digits, '.', '_' and '-'",
        )
    if not _may_count(path):
        raise ModelRejected(f"{shown(path)}: is not needed", hint="leave it out; no model is read from it")


def _may_count(path: str) -> bool:
    """Whether a file of this name may be one that a checkpoint is read from."""
    weights = path.endswith((".safetensors", ".gguf")) and "/" not in path
    return path == CARD or path in LIMITS or weights or is_template(path)


def upload_limit(path: str) -> int:
    """The most bytes that an uploaded file of this name may have."""
    limit = limit_of(path)
    return MAX_TOTAL_BYTES if limit is None else limit


def refuse_pointer(start: bytes, name: str) -> None:
    """Refuse what git keeps in the place of a large file that was not fetched.

    Args:
        start: the file's first bytes.
        name: of the file.

    Raises:
        ModelRejected: it is such a pointer.
    """
    if start.startswith(_POINTER):
        raise ModelRejected(
            f"{shown(name)}: is a pointer of Git LFS, and not the file itself",
            hint="fetch the files: git lfs pull, in the repository",
        )


def open_regular(path: Path, name: str) -> BinaryIO:
    """Open a file for reading; never follows a link and never waits for a FIFO that was put in its place.

    Raises:
        ModelRejected: it is gone, is a link, or is no regular file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise ModelRejected(
            f"{shown(name)}: cannot be opened ({error.strerror})", hint="make the file readable, or copy it again"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelRejected(f"{shown(name)}: is not a regular file", hint="put a copy of the file in its place")
    return os.fdopen(descriptor, "rb")


def _walk(folder: Path, root: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Regular files below ``folder`` as (relative name, real path, status); linked folders are not entered."""
    entries = 0
    pending: list[tuple[Path, str, int]] = [(folder, "", 0)]
    while pending:
        current, prefix, depth = pending.pop()
        try:
            found = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            raise ModelRejected(
                f"{shown(prefix or folder.name)}: cannot be listed ({error.strerror})", hint="make the folder readable"
            ) from error
        for entry in found:
            entries += 1
            if entries > MAX_ENTRIES:
                raise ModelRejected(
                    f"the folder holds more than {MAX_ENTRIES} entries", hint="point at the checkpoint's own folder"
                )
            name = prefix + entry.name
            if not _may_count(name) and _leads_nowhere_inside(entry, root):
                yield name, Path(entry.path), entry.stat(follow_symlinks=False)
                continue
            path, status = _inside(entry, name, root)
            if stat.S_ISDIR(status.st_mode):
                if entry.is_symlink() or (depth == 0 and entry.name in _SKIPPED_FOLDERS):
                    continue
                if depth + 1 > MAX_DEPTH:
                    raise ModelRejected(f"{shown(name)}: folders are nested too deep", hint="remove the folder")
                pending.append((Path(entry.path), name + "/", depth + 1))
            elif stat.S_ISREG(status.st_mode):
                yield name, path, status
            else:
                raise ModelRejected(
                    f"{shown(name)}: is a device, a FIFO or a socket", hint="remove it; a checkpoint has regular files"
                )


def _leads_nowhere_inside(entry: "os.DirEntry[str]", root: Path) -> bool:
    """Whether it is a link to what is gone from inside ``root``: a deleted checkpoint, a blob that was not fetched."""
    if not entry.is_symlink() or Path(entry.path).exists():
        return False
    real = Path(os.path.realpath(entry.path))
    return not real.is_symlink() and real.is_relative_to(root)


def _inside(entry: "os.DirEntry[str]", name: str, root: Path) -> tuple[Path, os.stat_result]:
    """The real path of an entry and its status, links followed, when it stays inside ``root``."""
    try:
        if not entry.is_symlink():
            return Path(entry.path), entry.stat(follow_symlinks=False)
        real = Path(entry.path).resolve(strict=True)
        status = real.lstat()
    except (OSError, RuntimeError) as error:
        raise ModelRejected(
            f"{shown(name)}: is a link that leads nowhere", hint="copy the file that it should point to"
        ) from error
    if not real.is_relative_to(root):
        raise ModelRejected(
            f"{shown(name)}: is a link out of the models' folder", hint="put a copy of the file in its place"
        )
    return real, status


def _refuse_by_size(file: FoundFile) -> None:
    limit = upload_limit(file.name)
    if file.size > limit:
        raise ModelRejected(f"{shown(file.name)}: has {file.size} bytes, more than {limit}", hint="make it smaller")
