"""Digests of files, with a cache so that a large file is read once."""

import hashlib
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models_store.errors import ModelRejected, translated
from models_store.files import FoundFile, open_regular, shown

_CACHE_NAME: Final = "digests.json"
_MAX_CACHED: Final = 4_096
_CHUNK_BYTES: Final = 4 * 1024**2


@dataclass(frozen=True)
class FileKey:
    """What tells one content of a file from another without reading it.

    A change of the content changes ``ctime_ns``, which no program can set back.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path, status: os.stat_result) -> "FileKey":
        """The key of a file that was just looked at."""
        return cls(str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def text(self) -> str:
        """The key as one string."""
        return f"{self.inode}:{self.size}:{self.mtime_ns}:{self.ctime_ns}:{self.path}"


class DigestCache:
    """Digests of files by ``FileKey``, kept in one JSON file that is replaced as a whole.

    Two processes that write at once may lose an entry, never corrupt one: the file is then read again.

    Args:
        folder: where the cache's file lives; None keeps it in memory.
        settle_s: a file that changed less than this many seconds ago is not remembered: a second change within the
            clock's granularity would not show.
    """

    def __init__(self, folder: Path | None, *, settle_s: float = 2.0) -> None:
        self._file = None if folder is None else folder / _CACHE_NAME
        self._settle_s = settle_s
        self._known: dict[str, str] = {}
        self._read_stamp: tuple[int, int] | None = None
        self._load()

    def digest(self, file: FoundFile) -> str:
        """SHA-256 of a file, hexadecimal; read when it is not remembered.

        Raises:
            ModelRejected: the file changed while it was read.
        """
        status = file.path.lstat()
        key = FileKey.of(file.path, status)
        known = self._known.get(key.text())
        if known is not None:
            return known
        hasher = hashlib.sha256()
        with open_regular(file.path, file.name) as opened:
            while chunk := opened.read(_CHUNK_BYTES):
                hasher.update(chunk)
            after = FileKey.of(file.path, os.fstat(opened.fileno()))
        if after != key:
            raise ModelRejected(f"{shown(file.name)}: changed while it was read", hint="write it first, then audit it")
        if time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) > self._settle_s * 1e9:
            self._remember(key.text(), hasher.hexdigest())
        return hasher.hexdigest()

    def remember(self, file: FoundFile, sha256: str) -> None:
        """Take a digest for a file's that nobody else writes to; hexadecimal."""
        self._remember(FileKey.of(file.path, file.path.lstat()).text(), sha256)

    def cached(self, file: FoundFile) -> str | None:
        """The digest when it is remembered, here or by another process, without reading the file."""
        if self._stamp() != self._read_stamp:
            self._load()
        return self._known.get(FileKey.of(file.path, file.path.lstat()).text())

    def _stamp(self) -> tuple[int, int] | None:
        """What tells one version of the cache's file from the next; it is replaced, never written in place."""
        try:
            status = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return None if status is None else (status.st_ino, status.st_mtime_ns)

    def _load(self) -> None:
        """Take in what other processes wrote; a damaged file counts as empty."""
        if self._file is None:
            return
        self._read_stamp = self._stamp()  # before reading: what is written meanwhile is read next time
        try:
            entries: Any = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return
        if isinstance(entries, dict):
            self._known.update({key: digest for key, digest in entries.items() if _is_digest(digest)})

    def _remember(self, key: str, digest: str) -> None:
        self._load()
        self._known.pop(key, None)
        self._known[key] = digest
        while len(self._known) > _MAX_CACHED:
            del self._known[next(iter(self._known))]
        if self._file is None:
            return
        with translated("writing the cache of digests"):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self._file.parent, prefix=".digests-")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(self._known, file)
                Path(temporary).replace(self._file)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64
