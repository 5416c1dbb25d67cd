"""Caches of base activations: one for each owner, so that no audit reads, or spoils, what another owner's has written.

All of them together have the size that the operator gives: before an audit begins, what other owners' audits have not
used for longest makes room.
"""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from storage.errors import StorageError
from storage.folder_cache import FolderCache
from storage.trees import remove_tree

_PREFIX: Final = "of-"

log = structlog.get_logger(__name__)


def cache_of(root: Path, owner: str) -> Path:
    """The folder of an owner's cache; its name says nothing about the owner."""
    return root / f"{_PREFIX}{hashlib.sha256(owner.encode()).hexdigest()[:32]}"


def make_room(root: Path, own: Path, max_bytes: int) -> None:
    """Have all caches below ``root`` hold at most ``max_bytes``; ``own`` is the last to give way.

    Caches that were used longest ago go first. What cannot be deleted now is deleted before a later audit.
    """
    try:
        for path in root.iterdir():
            if not path.name.startswith((_PREFIX, ".")):
                remove_tree(path)  # of an earlier version, which had one cache for all
        caches = [path for path in root.glob(f"{_PREFIX}*") if path.is_dir() and not path.is_symlink()]
        for path in caches:
            FolderCache(path, max_bytes=0).sweep()  # what is not counted could be of any size
        others = sorted((path for path in caches if path != own), key=_used_at)
        sizes = {path: FolderCache(path, max_bytes=0).size_bytes() for path in caches}
        too_much = sum(sizes.values()) - max_bytes
        for path in others:
            if too_much <= 0:
                return
            cache = FolderCache(path, max_bytes=max(0, sizes[path] - too_much))
            cache.evict()
            too_much -= sizes[path] - cache.size_bytes()
    except FileNotFoundError:
        return  # no audit has run yet
    except (StorageError, OSError) as error:
        log.warning("cache.crowded", error=type(error).__name__)


def _used_at(cache: Path) -> float:
    used = 0.0
    with suppress(OSError), os.scandir(cache) as entries:
        for entry in entries:
            with suppress(OSError):  # evicted meanwhile
                used = max(used, 0.0 if entry.name.startswith(".") else entry.stat(follow_symlinks=False).st_mtime)
    return min(used, time.time())  # a sandbox may set any time
