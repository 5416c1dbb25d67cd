"""Steps on a local disk that happen whole or not at all: locked temporary folders, and removal."""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from storage.trees import remove_tree

TEMPORARY: Final = ".tmp-"
TRASH: Final = ".trash-"
LOCK: Final = ".eviction.lock"


def locked_folder(root: Path) -> tuple[Path, int]:
    """A fresh hidden folder and the descriptor whose lock says that somebody is filling it."""
    while True:
        path = root / f"{TEMPORARY}{secrets.token_hex(8)}"
        path.mkdir(mode=0o755)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # Cleaned away between the two calls, before it could be locked.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except BaseException:
            os.close(descriptor)
            raise
        if is_same(path, descriptor):
            return path, descriptor
        os.close(descriptor)


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether nobody holds a lock on a folder; while inside, nobody else can take one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield is_same(path, descriptor)
    finally:
        os.close(descriptor)


def lock_shared(descriptor: int, *, patience_s: float) -> bool:
    """Take a shared lock, waiting a little for whoever holds it alone; False when that takes too long."""
    return _locked(descriptor, fcntl.LOCK_SH, patience_s)


def _locked(descriptor: int, kind: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def lock_alone(descriptor: int, *, patience_s: float) -> bool:
    """Take a lock that nobody shares, waiting a little for whoever holds one; False when that takes too long."""
    return _locked(descriptor, fcntl.LOCK_EX, patience_s)


def is_same(path: Path, descriptor: int) -> bool:
    """Whether ``path`` is still the folder that was opened."""
    opened = os.fstat(descriptor)
    try:
        there = path.lstat()
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino)


def discard(root: Path, path: Path) -> None:
    """Take a folder away in one step, then delete it at leisure."""
    trash = root / f"{TRASH}{secrets.token_hex(8)}"
    try:
        path.rename(trash)
    except FileNotFoundError:
        return
    remove_tree(trash)
