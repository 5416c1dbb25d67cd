"""Deletes, measures and flushes folders that untrusted code may have filled, whatever is in them.

Nothing here recurses, follows a link, or needs a path as long as the nesting is deep, and one thing that cannot be
deleted stops nothing else.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIFTED: Final = ".lifted-"
_BATCH: Final = 10_000
"""How many entries of a folder are held in memory at a time."""
_MOST_PASSES: Final = 100_000
"""After so many levels the rest is left for the next call: somebody may be adding to the folder all the time."""


def remove_tree(folder: Path) -> bool:
    """Delete a folder with all that is in it, or a link to one; return whether it is gone. Raises nothing.

    Nested folders are lifted to the top one by one, so that any depth takes two descriptors and short names.
    """
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            folder.unlink()
            return True
        _permit(None, str(folder))
        top = os.open(folder, _FOLDER)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        for _ in range(_MOST_PASSES):
            if not _remove_level(top):
                break
    except OSError:
        return False
    finally:
        os.close(top)
    with suppress(OSError):
        folder.rmdir()
    return not os.path.lexists(folder)


def _remove_level(top: int) -> bool:
    """Delete the files and the folders right in the open folder, lifting what is below those; False when done."""
    removed = False
    for entry in _in_batches(top):
        try:
            if entry.is_dir(follow_symlinks=False):
                _lift(top, entry.name)
                os.rmdir(entry.name, dir_fd=top)
            else:
                os.unlink(entry.name, dir_fd=top)
            removed = True
        except OSError:
            continue
    return removed


def _in_batches(folder: int) -> Iterator[os.DirEntry[str]]:
    """What is in an open folder; it may be removed on the way."""
    with os.scandir(folder) as entries:
        while batch := list(islice(entries, _BATCH)):
            yield from batch


def _lift(top: int, name: str) -> None:
    """Delete the files right in a folder of the open one, and move its folders up beside it."""
    _permit(top, name)
    inner = os.open(name, _FOLDER, dir_fd=top)
    try:
        for entry in _in_batches(inner):
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    _permit(inner, entry.name)
                    os.rename(entry.name, f"{_LIFTED}{entry.inode()}", src_dir_fd=inner, dst_dir_fd=top)
                else:
                    os.unlink(entry.name, dir_fd=inner)
    finally:
        os.close(inner)


def _permit(top: int | None, name: str) -> None:
    """Let this process into a folder of its own user that was made without that right."""
    if not hasattr(os, "O_PATH"):
        return
    with suppress(OSError):
        descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
        try:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & stat.S_IRWXU != stat.S_IRWXU:
                Path(f"/proc/self/fd/{descriptor}").chmod(stat.S_IRWXU)
        finally:
            os.close(descriptor)


def walk(folder: Path) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
    """Each folder below one, the outermost first, with what in it is no folder; links are not followed.

    A folder that cannot be listed (it is gone, or its path is longer than the system takes) is passed over.
    """
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        files: list[os.DirEntry[str]] = []
        with suppress(OSError), os.scandir(current) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(current / entry.name)
                else:
                    files.append(entry)
        yield current, files


def tree_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, however deep; files that go meanwhile count as nothing."""
    total = 0
    for entry in _files_at_any_depth(folder):
        with suppress(OSError):
            total += entry.stat(follow_symlinks=False).st_size
    return total


def _files_at_any_depth(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What below a folder is no folder. To be looked at at once; no path is used, which a deep one would be too long
    for, and one descriptor is open at a time. Ends early if folders are moved meanwhile.
    """
    try:
        current = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    waiting: list[list[str]] = [[]]
    way: list[tuple[int, int]] = []
    try:
        yield from _listed(current, waiting[-1])
        while waiting:
            if waiting[-1]:
                with suppress(OSError):
                    name = waiting[-1].pop()
                    _permit(current, name)  # one that may be written to and not listed hides what is in it
                    below = os.open(name, _FOLDER, dir_fd=current)
                    way.append(_identity(current))
                    os.close(current)
                    current = below
                    waiting.append([])
                    yield from _listed(current, waiting[-1])
                continue
            waiting.pop()
            if waiting:
                above = os.open("..", _FOLDER, dir_fd=current)
                os.close(current)
                current = above
                if _identity(current) != way.pop():
                    return
    except OSError:
        return
    finally:
        os.close(current)


def _listed(folder: int, folders: list[str]) -> Iterator[os.DirEntry[str]]:
    """What in an open folder is no folder; the names of the others go into ``folders``."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                yield entry


def _identity(folder: int) -> tuple[int, int]:
    status = os.fstat(folder)
    return status.st_dev, status.st_ino


def flush_tree(folder: Path) -> None:
    """Write every file and folder to the disk, the outermost folder last.

    Raises:
        OSError: one of them cannot be written, or is a link.
    """
    folders: list[Path] = []
    for current, files in walk(folder):
        for entry in files:
            flush(current / entry.name)
        folders.append(current)
    for current in reversed(folders):
        flush(current)


def flush(path: Path) -> None:
    """Write one file, or the names in one folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
