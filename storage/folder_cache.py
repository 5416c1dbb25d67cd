"""A cache of folders with least-recently-used eviction, shared by processes."""

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from storage.disk import LOCK, claimed, discard, is_same, lock_alone, lock_shared
from storage.folders import ArtifactFolder, checked_name
from storage.trees import tree_bytes

_MAX_PINNED: Final = 256
_PATIENCE_S: Final = 5.0


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
            _note_use(path)
        return path

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """As ``ArtifactFolder.create``; then evicts what exceeds the limit."""
        with super().create(name) as folder:
            yield folder
        with suppress(OSError):
            _note_use(self.root / name)
        self.evict(keep=name)

    def evict(self, *, keep: str | None = None) -> list[str]:
        """Delete the folders used longest ago until the rest fits.

        Args:
            keep: a folder that stays whatever its size.

        Returns:
            The names that went.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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


def _note_use(folder: Path) -> None:
    """Have the folder's time of change be now, by a change: a sandbox may not set times.

    Raises:
        OSError: nothing can be written there.
    """
    mark = folder / f".used-{os.getpid()}"
    mark.mkdir(exist_ok=True)
    mark.rmdir()
