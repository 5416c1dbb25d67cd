"""Deletes, measures and flushes folders that untrusted code may have filled, whatever is in them.

Nothing here recurses, follows a link, or needs a path as long as the nesting is deep, and one thing that cannot be
deleted stops nothing else.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIFTED: Final = ".lifted-"


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
        while _remove_level(top):
            pass
    except OSError:
        return False
    finally:
        os.close(top)
    with suppress(OSError):
        folder.rmdir()
    return not os.path.lexists(folder)


def _remove_level(top: int) -> bool:
    """Delete the files and the folders right in the open folder, lifting what is below those; False when done."""
    with os.scandir(top) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    removed = False
    for name, is_folder in found:
        try:
            if is_folder:
                _lift(top, name)
                os.rmdir(name, dir_fd=top)
            else:
                os.unlink(name, dir_fd=top)
            removed = True
        except OSError:
            continue
    return removed


def _lift(top: int, name: str) -> None:
    """Delete the files right in a folder of the open one, and move its folders up beside it."""
    _permit(top, name)
    inner = os.open(name, _FOLDER, dir_fd=top)
    try:
        with os.scandir(inner) as entries:
            found = [(entry.name, entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in entries]
        for below, inode, is_folder in found:
            with suppress(OSError):
                if is_folder:
                    _permit(inner, below)
                    os.rename(below, f"{_LIFTED}{inode}", src_dir_fd=inner, dst_dir_fd=top)
                else:
                    os.unlink(below, dir_fd=inner)
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
    """Bytes of all files below a folder; files that go meanwhile count as nothing."""
    total = 0
    for _, files in walk(folder):
        for entry in files:
            with suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_size
    return total


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
