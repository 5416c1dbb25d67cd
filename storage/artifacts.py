"""Folders that are written whole or not at all, on a local disk; and a cache of them with least-recently-used eviction.

A folder is filled under a hidden name beside its place, flushed, and renamed in one step. Whoever fills it holds a lock
on it (``flock``), which the kernel drops when the process dies: that is how leftovers are told from work in progress.
"""

import errno
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from storage.disk import (
    TEMPORARY,
    TRASH,
    claimed,
    discard,
    is_same,
    lock_alone,
    lock_shared,
    locked_folder,
)
from storage.errors import InvalidLocation, translated
from storage.trees import flush, flush_tree, remove_tree, tree_bytes

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=,+@-]{0,199}")
AUDIT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_EVICTION_LOCK: Final = ".eviction.lock"
_MAX_PINNED: Final = 256
_PATIENCE_S: Final = 5.0
_PIECE_BYTES: Final = 1024**2


class ArtifactFolder:
    """Named folders inside one root, each written whole or not at all. Several processes may use the same root.

    Args:
        root: made when the first folder is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, name: str) -> Path | None:
        """Return the finished folder ``name``, or None."""
        path = self.root / checked_name(name)
        return path if path.is_dir() else None

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """Give an empty folder to fill; on a clean exit it becomes ``name`` in one step, else it is gone.

        When ``name`` is there already, because another process was faster, the folder that is there stays.

        Raises:
            OSError: no space, no permission; nothing is left behind. Whatever the caller raises comes through.
        """
        checked_name(name)
        self.root.mkdir(parents=True, exist_ok=True)
        self.clean()
        temporary, lock = locked_folder(self.root)
        try:
            yield temporary
            flush_tree(temporary)
            if self._place(temporary, self.root / name):
                flush(self.root)
        finally:
            # After a successful rename there is nothing of that name; after a failure this must not hide its cause.
            remove_tree(temporary)
            os.close(lock)

    def obtain(self, name: str, write: Callable[[Path], None]) -> Path:
        """Return the finished folder ``name``; ``write`` fills it first if it does not exist.

        Raises:
            OSError: as for ``create``, or the folder was removed in the meantime. Whatever ``write`` raises comes
                through, and nothing is left behind.
        """
        existing = self.find(name)
        if existing is not None:
            return existing
        with self.create(name) as folder:
            write(folder)
        written = self.find(name)
        if written is None:
            raise FileNotFoundError(errno.ENOENT, "the folder was removed while it was being written", name)
        return written

    def remove(self, name: str) -> None:
        """Delete the folder ``name`` if it is there; readers see it whole or not at all."""
        discard(self.root, self.root / checked_name(name))

    def names(self) -> Iterator[str]:
        """Names of the finished folders, sorted."""
        if not self.root.is_dir():
            return
        for entry in sorted(os.scandir(self.root), key=lambda entry: entry.name):
            if NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                yield entry.name

    def clean(self) -> None:
        """Delete what processes that died left behind; folders that a living process fills are not touched."""
        if not self.root.is_dir():
            return
        for entry in os.scandir(self.root):
            if entry.name.startswith((TEMPORARY, TRASH)):
                with claimed(Path(entry.path)) as free:
                    if free:
                        remove_tree(Path(entry.path))

    def size_bytes(self) -> int:
        """Bytes of all files of the finished folders."""
        return sum(tree_bytes(self.root / name) for name in self.names())

    @staticmethod
    def _place(temporary: Path, place: Path) -> bool:
        """Rename; False when another process has put a folder there first."""
        try:
            temporary.rename(place)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY) and place.is_dir():
                return False
            raise
        return True


class FolderCache(ArtifactFolder):
    """An ``ArtifactFolder`` of at most ``max_bytes``: the folders used longest ago go first.

    A folder that a living process has found stays until that process ends (or has found 256 others since), so that
    nothing disappears under a reader; the limit may be exceeded for that long. The folder just written stays as well.

    Args:
        root: shared by all processes that use the cache.
        max_bytes: the most bytes that the finished folders may have together.
    """

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        super().__init__(root)
        self.max_bytes = max_bytes
        self._pinned: OrderedDict[str, int] = OrderedDict()

    def find(self, name: str) -> Path | None:
        """Return the finished folder ``name`` and note its use, or None."""
        path = self.root / checked_name(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        if not self._pin(name, path, descriptor):
            os.close(descriptor)
            return None
        with suppress(OSError):
            os.utime(path)
        return path

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """As ``ArtifactFolder.create``; then evicts what exceeds the limit."""
        with super().create(name) as folder:
            yield folder
        with suppress(OSError):
            os.utime(self.root / name)
        self.evict(keep=name)

    def evict(self, *, keep: str | None = None) -> list[str]:
        """Delete the folders used longest ago until the rest fits.

        Args:
            keep: a folder that stays whatever its size.

        Returns:
            The names that went.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.root / _EVICTION_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Whoever holds it for longer is not evicting; nobody waits for that.
            return self._evict_locked(keep) if lock_alone(lock, patience_s=_PATIENCE_S) else []
        finally:
            os.close(lock)

    def close(self) -> None:
        """Let go of the folders that this process has found; they may be evicted from now on."""
        while self._pinned:
            os.close(self._pinned.popitem()[1])

    def _evict_locked(self, keep: str | None) -> list[str]:
        folders: list[tuple[int, str, int]] = []
        for name in self.names():
            with suppress(OSError):
                path = self.root / name
                folders.append((path.stat().st_mtime_ns, name, tree_bytes(path)))
        total = sum(size for _, _, size in folders)
        gone: list[str] = []
        for _, name, size in sorted(folders):
            if total <= self.max_bytes:
                break
            if name == keep:
                continue
            with claimed(self.root / name) as free:
                if free:
                    discard(self.root, self.root / name)
                    total -= size
                    gone.append(name)
        return gone

    def _pin(self, name: str, path: Path, descriptor: int) -> bool:
        """Hold a shared lock on a folder; False when it is being evicted."""
        # Whoever has just put the folder there still holds it for as long as one flush takes.
        if not lock_shared(descriptor, patience_s=_PATIENCE_S) or not is_same(path, descriptor):
            return False
        before = self._pinned.pop(name, None)
        if before is not None:
            os.close(before)
        self._pinned[name] = descriptor
        if len(self._pinned) > _MAX_PINNED:
            os.close(self._pinned.popitem(last=False)[1])
        return True


@dataclass(frozen=True)
class StoredFile:
    """One file of a finished artifact.

    Attributes:
        name: of the file.
        size_bytes: how long it is.
        etag: changes when its content does; in quotes, as HTTP has it.
        path: where it lies on this machine; None in an object store.
        key: its object's; None on a disk.
    """

    name: str
    size_bytes: int
    etag: str
    path: Path | None = None
    key: str | None = None


class ArtifactStore:
    """The artifacts of all audits on a disk: one ``ArtifactFolder`` for each.

    Args:
        location: a folder, or its ``file://`` URL.

    Raises:
        InvalidLocation: another kind of URL.
    """

    def __init__(self, location: str | Path) -> None:
        self.root = _local_folder(location)

    def folder(self, audit_id: str) -> ArtifactFolder:
        """The folder of one audit; nothing is made until something is written."""
        return ArtifactFolder(self.root / checked_audit(audit_id))

    def audits(self) -> Iterator[str]:
        """Ids of the audits that have a folder, sorted."""
        for name in ArtifactFolder(self.root).names():
            if AUDIT_ID.fullmatch(name):
                yield name

    def list(self, audit_id: str) -> list[str]:
        """Names of the finished artifacts of one audit."""
        return list(self.folder(audit_id).names())

    def files(self, audit_id: str, name: str) -> tuple[StoredFile, ...] | None:
        """The regular files right in a finished artifact, by name; None where there is none. Links are not followed.

        Raises:
            StorageUnavailable: the disk refused.
            ValueError: no artifact has such a name.
        """
        folder = self.folder(audit_id).find(name)
        if folder is None:
            return None
        with translated("looking at an artifact"):
            found = [(path, path.lstat()) for path in sorted(folder.iterdir())]
        return tuple(
            StoredFile(
                name=path.name,
                size_bytes=status.st_size,
                etag=f'"{status.st_size:x}-{status.st_mtime_ns:x}"',
                path=path,
            )
            for path, status in found
            if stat.S_ISREG(status.st_mode)
        )

    def read(self, file: StoredFile, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of a file from ``start`` to before ``stop``, in pieces.

        Raises:
            StorageUnavailable: the disk refused, or the file has gone meanwhile.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with translated("reading an artifact"), os.fdopen(os.open(file.path or "", flags), "rb") as opened:
            opened.seek(start)
            while start < stop and (piece := opened.read(min(_PIECE_BYTES, stop - start))):
                start += len(piece)
                yield piece

    def delete(self, audit_id: str) -> None:
        """Delete everything of one audit, if there is anything.

        Raises:
            StorageUnavailable: the disk refused.
        """
        with translated("deleting an audit's artifacts"):
            discard(self.root, self.root / checked_audit(audit_id))
            ArtifactFolder(self.root).clean()


def _local_folder(location: str | Path) -> Path:
    if isinstance(location, Path) or "://" not in location:
        return Path(location)
    parts = urlsplit(location)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise InvalidLocation(
            f"artifacts cannot be kept at a {parts.scheme}:// address",
            hint="give a folder, file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://account/container/prefix",
        )
    return Path(unquote(parts.path))


def checked_name(name: str) -> str:
    """Return ``name`` when an artifact may have it.

    Raises:
        ValueError: it may not.
    """
    if NAME.fullmatch(name) is None:
        raise ValueError("the name of an artifact is one part: letters, digits and ._=,+@-, not starting with a dot")
    return name


def checked_audit(audit_id: str) -> str:
    """Return ``audit_id`` when an audit may have it.

    Raises:
        ValueError: it may not.
    """
    if AUDIT_ID.fullmatch(audit_id) is None:
        raise ValueError("an audit's id is letters, digits, _ and -")
    return audit_id
