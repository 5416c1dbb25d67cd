"""Checkpoints that are being uploaded: file by file, resumed where they broke off, invisible until they are committed.

A file grows in the folder ``parts`` and moves to ``files`` when all of it is there and its digest is right. A commit
verifies what is in ``files``, and only then does the store know it.

Each owner's uploads are their own: another owner's upload of the same name is another upload. How many there may be,
and how much they may hold, is bounded for each owner; some of the disk stays free for everybody.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models_store.errors import (
    DigestMismatch,
    ModelNotFound,
    ModelRejected,
    OffsetMismatch,
    UploadBusy,
    UploadIncomplete,
    UploadRefused,
    translated,
)
from models_store.files import GiB, takes, upload_limit
from models_store.references import store_name

DEFAULT_LIMIT_BYTES: Final = 200 * GiB
ABANDONED_AFTER_S: Final = 7 * 86_400.0
"""An upload that nobody has touched for that long is deleted when the next one begins."""

LOCAL_OWNER: Final = "local"
"""Whose uploads they are where nobody has a key."""
MOST_UPLOADS: Final = 20
"""Unfinished uploads that an owner may have."""
MOST_FILES: Final = 1_200
"""Files that an upload may have: a thousand shards, and what else a checkpoint holds."""
MIN_FREE_BYTES: Final = 2 * GiB
"""What an upload leaves free on the disk."""

_FILES: Final = "files"
_PARTS: Final = "parts"
_DIGESTS: Final = "digests"
_LOCK: Final = "upload.lock"
_CHUNK_BYTES: Final = 4 * 1024**2


@dataclass(frozen=True)
class Received:
    """What is there of one file.

    Attributes:
        offset: bytes received.
        complete: whether that is all of it.
        sha256: hexadecimal digest of a complete file.
    """

    offset: int
    complete: bool
    sha256: str | None = None


@dataclass(frozen=True)
class _Place:
    """Where a file is when all of it is there, while it is not, and where its digest is."""

    file: Path
    part: Path
    digest: Path


class Uploads:
    """One owner's uploads, below one folder, which is on the same disk as the store.

    Args:
        root: made when the first upload begins; all owners'.
        limit_bytes: the most bytes that all files of one upload may have together; all uploads of an owner may have
            twice as many.
        min_free_bytes: what an upload leaves free on the disk.
        owner: whose uploads these are.
    """

    def __init__(
        self,
        root: Path,
        *,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        min_free_bytes: int = MIN_FREE_BYTES,
        owner: str = LOCAL_OWNER,
    ) -> None:
        self.root = root
        self.limit_bytes = limit_bytes
        self.min_free_bytes = min_free_bytes
        # A name that any file system takes, and that no name of an upload is.
        self._own = root / f"of-{hashlib.sha256(owner.encode()).hexdigest()[:32]}"

    def of(self, owner: str) -> "Uploads":
        """Another owner's."""
        return Uploads(self.root, limit_bytes=self.limit_bytes, min_free_bytes=self.min_free_bytes, owner=owner)

    def received(self, name: str, path: str) -> Received:
        """How much of a file is there.

        Raises:
            InvalidReference, ModelRejected: no such name or file can be uploaded.
            ModelNotFound: nothing of it is there.
        """
        place = self._place(name, path)
        with translated("looking at an upload"):
            if place.part.is_file():
                return Received(place.part.stat().st_size, complete=False)
            if place.file.is_file():
                digest = place.digest.read_text(encoding="ascii")
                return Received(place.file.stat().st_size, complete=True, sha256=digest)
        raise ModelNotFound("nothing of this file has been uploaded", hint="upload it from its first byte")

    @contextmanager
    def receiving(self, name: str, path: str, *, offset: int, total: int | None) -> "Iterator[Receiving]":
        """Take bytes of a file from ``offset`` on; what was written stays when this ends early.

        Args:
            name: the model's name in the store.
            path: the file's path in the checkpoint.
            offset: 0 begins the file again; otherwise it must be the number of bytes that are there.
            total: bytes of the whole file, where they are known.

        Raises:
            InvalidReference, ModelRejected: no such name or file can be uploaded, or it is larger than allowed.
            OffsetMismatch: the bytes before ``offset`` are not there.
            UploadBusy: somebody else is writing to this upload.
            UploadRefused: the owner has too many uploads, or this one has too many files.
            NoSpace: the disk is full.
        """
        place = self._place(name, path)
        limit = min(upload_limit(path), self.limit_bytes)
        if total is not None and total > limit:
            raise ModelRejected(f"the file has {total} bytes, more than {limit}", hint="make it smaller")
        with translated("receiving an upload"):
            if not (self._own / name).exists():
                self.clean()
                self._check_number()
            for needed in (place.file, place.part, place.digest):
                needed.parent.mkdir(parents=True, exist_ok=True)
            with self._locked(name):
                there = place.part.stat().st_size if place.part.is_file() else 0
                if offset not in (0, there):
                    raise OffsetMismatch(there)
                if offset == 0:
                    place.file.unlink(missing_ok=True)
                if len(files := self._files_of(name)) >= MOST_FILES and place.part not in files:
                    raise UploadRefused(f"the upload has {len(files)} files", hint="no checkpoint has more")
                room = min(
                    limit,
                    self.limit_bytes - _bytes_of(files) + there,
                    2 * self.limit_bytes - sum(_bytes_of(self._files_of(one.name)) for one in self._all()) + there,
                )
                with place.part.open("r+b" if offset else "wb") as file:
                    file.seek(offset)
                    yield Receiving(file.fileno(), place, limit=room, at=offset, min_free_bytes=self.min_free_bytes)

    def staged(self, name: str) -> Path:
        """The folder of an upload all of whose files are there.

        Raises:
            ModelNotFound: there is no upload of this name.
            UploadIncomplete: a file of it is not all there.
        """
        folder = self._own / store_name(name) / _FILES
        if not folder.is_dir():
            raise ModelNotFound("nothing has been uploaded under this name", hint="upload its files first")
        missing = sorted(path.name for path in (folder.parent / _PARTS).rglob("*") if path.is_file())
        if missing:
            raise UploadIncomplete(f"{missing[0]}: is not all there", hint="ask for its offset, and send the rest")
        return folder

    def discard(self, name: str) -> bool:
        """Delete an upload; say whether there was one.

        Raises:
            UploadBusy: somebody is writing to it.
        """
        folder = self._own / store_name(name)
        if not folder.is_dir():
            return False
        with translated("deleting an upload"), self._locked(name):
            shutil.rmtree(folder)
        return True

    def clean(self, *, older_than_s: float = ABANDONED_AFTER_S) -> None:
        """Delete the uploads that nobody has touched for that long."""
        if not self.root.is_dir():
            return
        for folder in self.root.glob("*/*"):
            times = [path.lstat().st_mtime for path in (folder, *folder.rglob("*"))]
            if max(times) < time.time() - older_than_s:
                shutil.rmtree(folder, ignore_errors=True)

    def _all(self) -> list[Path]:
        """The owner's uploads, a folder each."""
        return list(self._own.iterdir()) if self._own.is_dir() else []

    def _check_number(self) -> None:
        if len(self._all()) >= MOST_UPLOADS:
            raise UploadRefused(
                f"you have {MOST_UPLOADS} uploads that are not committed", hint="commit or delete one of them first"
            )

    def _place(self, name: str, path: str) -> "_Place":
        folder = self._own / store_name(name)
        takes(path)
        return _Place(folder / _FILES / path, folder / _PARTS / path, folder / _DIGESTS / path)

    def _files_of(self, name: str) -> list[Path]:
        folders = (self._own / name / _FILES, self._own / name / _PARTS)
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Keep others from this upload; the kernel lets go when the process dies."""
        descriptor = os.open(self._own / name / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UploadBusy("somebody is writing to this upload", hint="wait until they have ended") from None
            yield
        finally:
            os.close(descriptor)


class Receiving:
    """One file that is being written."""

    def __init__(self, descriptor: int, place: _Place, *, limit: int, at: int, min_free_bytes: int) -> None:
        self._descriptor, self._place, self._limit = descriptor, place, limit
        self._min_free_bytes = min_free_bytes
        self.offset = at

    def write(self, chunk: bytes) -> None:
        """Append bytes.

        Raises:
            ModelRejected: they are more than the file, or the upload, may have.
            NoSpace: the disk is full, or nearly.
        """
        if self.offset + len(chunk) > self._limit:
            raise ModelRejected(f"the upload is over its limit of {self._limit} bytes", hint="make it smaller")
        with translated("receiving an upload"):
            disk = os.fstatvfs(self._descriptor)
            if disk.f_bavail * disk.f_frsize - len(chunk) < self._min_free_bytes:
                raise OSError(errno.ENOSPC, "the disk of the store is nearly full")
            view = memoryview(chunk)
            while view:
                written = os.write(self._descriptor, view)
                if not written:
                    raise OSError(errno.EIO, "nothing was written")
                view = view[written:]
        self.offset += len(chunk)

    def finish(self, sha256: str | None = None) -> Received:
        """Say that all of the file is there.

        Args:
            sha256: hexadecimal digest that it must have.

        Raises:
            DigestMismatch: it has another; what was received is deleted.
        """
        part = self._place.part
        with translated("finishing an upload"):
            os.ftruncate(self._descriptor, self.offset)
            os.fsync(self._descriptor)
            found = _sha256(part)
            if sha256 is not None and found != sha256:
                part.unlink()
                raise DigestMismatch("the file that arrived is not the one that was sent", hint="send it again")
            self._place.digest.write_text(found, encoding="ascii")
            part.rename(self._place.file)
        return Received(self.offset, complete=True, sha256=found)


def _bytes_of(files: list[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def _sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
