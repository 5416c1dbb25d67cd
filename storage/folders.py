"""Folders that are written whole or not at all, on a local disk.

A folder is filled under a hidden name beside its place, flushed, and renamed in one step. Whoever fills it holds a lock
on it (``flock``), which the kernel drops when the process dies: that is how leftovers are told from work in progress.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from heapq import nsmallest
from pathlib import Path
from typing import Final

from storage.disk import LOCK, TEMPORARY, TRASH, claimed, discard, locked_folder
from storage.trees import flush, flush_tree, remove_tree, tree_bytes

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=,+@-]{0,199}")


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

    def names(self, *, most: int | None = None) -> Iterator[str]:
        """Names of the finished folders, sorted.

        Args:
            most: how many, where a stranger's code may have made any number; no more are kept in memory.
        """
        if not self.root.is_dir():
            return
        with os.scandir(self.root) as entries:
            found = (entry.name for entry in entries if _is_finished(entry))
            yield from sorted(found) if most is None else nsmallest(most, found)

    def clean(self) -> None:
        """Delete what processes that died left behind; folders that a living process fills are not touched."""
        if not self.root.is_dir():
            return
        for entry in os.scandir(self.root):
            if entry.name.startswith((TEMPORARY, TRASH)):
                with claimed(Path(entry.path)) as free:
                    if free:
                        remove_tree(Path(entry.path))

    def sweep(self) -> None:
        """As ``clean``, and delete besides what is no folder of ours: whoever may write here can leave anything."""
        self.clean()
        with suppress(OSError), os.scandir(self.root) as entries:
            for entry in entries:
                ours = NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
                if not ours and not entry.name.startswith((TEMPORARY, TRASH, LOCK)):
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


def _is_finished(entry: os.DirEntry[str]) -> bool:
    return NAME.fullmatch(entry.name) is not None and entry.is_dir(follow_symlinks=False)


def checked_name(name: str) -> str:
    """Return ``name`` when an artifact may have it.

    Raises:
        ValueError: it may not.
    """
    if NAME.fullmatch(name) is None:
        raise ValueError("the name of an artifact is one part: letters, digits and ._=,+@-, not starting with a dot")
    return name
