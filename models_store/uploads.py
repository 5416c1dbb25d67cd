"""Checkpoints that are being uploaded: file by file, resumed where they broke off, invisible until they are committed.

A file grows in the folder ``parts`` and moves to ``files`` when all of it is there. Its digest is computed as its bytes
come, so that the last of them is answered as fast as the first. Where this process has not seen all bytes of a file (it
was restarted, or others received parts), the digest is left to the commit. A commit verifies what is in ``files``, and
only then does the store know it.

Each owner's uploads are their own: another owner's upload of the same name is another upload. How many there may be,
and how much they may hold, is bounded for each owner; some of the disk stays free for everybody.
"""

import errno
import fcntl
import hashlib
import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self

from models_store.errors import (
    BeingCommitted,
    DigestMismatch,
    ModelNotFound,
    ModelRejected,
    OffsetMismatch,
    StoreUnavailable,
    UploadBusy,
    UploadIncomplete,
    UploadRefused,
    translated,
)
from models_store.files import GiB, MiB, takes, upload_limit
from models_store.references import store_name
from models_store.room import Room
from storage.trees import remove_tree, tree_bytes, walk

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
_COMMIT_LOCK: Final = "commit.lock"
_MAX_RUNNING: Final = 256
_SYNC_BYTES: Final = 64 * MiB
"""After so many bytes they are written to the disk: at the end of a file there is little left to wait for."""
_CHUNK_BYTES: Final = 4 * 1024**2


@dataclass(frozen=True)
class Received:
    """What is there of one file.

    Attributes:
        offset: bytes received.
        complete: whether that is all of it.
        sha256: hexadecimal digest of a complete file; None where the commit has yet to compute it.
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


@dataclass(frozen=True)
class _Content:
    """What is known of a complete file's content.

    Attributes:
        sha256: its digest; None where nobody has computed it.
        wanted: the digest that its sender named; None where it named none.
        stamp: which file that was said of: inode, size, time of its last change.
    """

    sha256: str | None
    wanted: str | None
    stamp: tuple[int, ...]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="ascii")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what was written; what is damaged or of an earlier version knows nothing."""
        try:
            known = json.loads(path.read_text(encoding="ascii"))
            return cls(known["sha256"], known["wanted"], tuple(known["stamp"]))
        except (OSError, ValueError, LookupError, TypeError):
            return cls(None, None, ())


@dataclass
class _Running:
    """The digest of all bytes of a file that grows, as long as it is still the file of that stamp."""

    stamp: tuple[int, ...] = ()
    hasher: "hashlib._Hash" = field(default_factory=hashlib.sha256)


class Uploads:
    """One owner's uploads, below one folder, which is on the same disk as the store.

    Args:
        root: made when the first upload begins; all owners'.
        limit_bytes: the most bytes that all files of one upload may have together; all uploads of an owner may have
            twice as many.
        min_free_bytes: what an upload leaves free on the disk.
        owner: whose uploads these are.
        room: how many bytes all uploads of an owner may have together beside the models that are committed, and all
            uploads of all owners.
    """

    def __init__(
        self,
        root: Path,
        *,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        min_free_bytes: int = MIN_FREE_BYTES,
        owner: str = LOCAL_OWNER,
        room: Callable[[str], Room] = lambda owner: Room(),
    ) -> None:
        self.root = root
        self._owner, self._room = owner, room
        self.limit_bytes = limit_bytes
        self.min_free_bytes = min_free_bytes
        self._running: OrderedDict[Path, _Running] = OrderedDict()
        # A name that any file system takes, and that no name of an upload is.
        self._own = root / f"of-{hashlib.sha256(owner.encode()).hexdigest()[:32]}"

    def of(self, owner: str) -> "Uploads":
        """Another owner's."""
        uploads = Uploads(
            self.root,
            limit_bytes=self.limit_bytes,
            min_free_bytes=self.min_free_bytes,
            owner=owner,
            room=self._room,
        )
        uploads._running = self._running
        return uploads

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
                status = place.file.stat()
                content = _Content.read(place.digest)
                sha256 = content.sha256 if content.stamp == _stamp(status) else None
                return Received(status.st_size, complete=True, sha256=sha256)
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
            StoreFull: the owner's models and uploads are as large as they may be.
            NoSpace: the disk is full, or all owners' are as large as they may be.
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
                own = self.bytes_held()
                room = self._room(self._owner).beside(own - there, tree_bytes(self.root) - there)
                room.check(offset if total is None else total)
                limit = min(limit, self.limit_bytes - _bytes_of(files) + there, 2 * self.limit_bytes - own + there)
                running = self._running_at(place.part, offset)
                with place.part.open("r+b" if offset else "wb") as file:
                    file.seek(offset)
                    try:
                        yield Receiving(
                            file.fileno(),
                            place,
                            running,
                            limit=limit,
                            room=room,
                            at=offset,
                            min_free_bytes=self.min_free_bytes,
                        )
                    finally:
                        os.fdatasync(file.fileno())
                        if not place.part.exists():
                            self._running.pop(place.part, None)
                        elif running is not None:
                            running.stamp = _stamp(os.fstat(file.fileno()))

    def bytes_held(self) -> int:
        """Bytes of all of the owner's uploads."""
        return sum(_bytes_of(self._files_of(one.name)) for one in self._all())

    def _running_at(self, part: Path, offset: int) -> _Running | None:
        """The digest of the bytes before ``offset``; None where this process has not seen all of them."""
        if offset == 0:
            self._running[part] = _Running()
            while len(self._running) > _MAX_RUNNING:
                self._running.popitem(last=False)
            return self._running[part]
        running = self._running.get(part)
        return running if running is not None and running.stamp == _stamp(part.stat()) else None

    @contextmanager
    def committing(self, name: str) -> Iterator[Path]:
        """Give the folder of an upload all of whose files are there, and keep others from it.

        Raises:
            BeingCommitted: another process is committing it.
            UploadBusy: somebody is writing to it.
            ModelNotFound: there is no upload of this name.
            UploadIncomplete: a file of it is not all there.
        """
        folder = self._own / store_name(name) / _FILES
        if not folder.is_dir():
            raise ModelNotFound("nothing has been uploaded under this name", hint="upload its files first")
        self._check_whole(name)
        try:
            with self._locked(name), self._locked(name, _COMMIT_LOCK):
                self._check_whole(name)
                yield folder
        except UploadBusy:
            if self._is_locked(name, _COMMIT_LOCK):
                raise BeingCommitted("another process is committing this upload", hint="ask again") from None
            raise

    def _check_whole(self, name: str) -> None:
        missing = sorted(path.name for path in _files_below(self._own / name / _PARTS))
        if missing:
            raise UploadIncomplete(f"{missing[0]}: is not all there", hint="ask for its offset, and send the rest")

    def digest(self, name: str, path: str) -> str:
        """SHA-256 of a complete file, hexadecimal; it is read where that is not known. To be called in ``committing``.

        Raises:
            DigestMismatch: it is not the one that its sender named; the file is deleted.
        """
        place = self._place(name, path)
        with translated("reading an upload"):
            stamp, content = _stamp(place.file.stat()), _Content.read(place.digest)
            if content.stamp == stamp and content.sha256 is not None:
                return content.sha256
            found = _sha256(place.file)
            if content.stamp == stamp and content.wanted not in (None, found):
                place.file.unlink()
                raise _mismatch()
            _Content(found, content.wanted, stamp).write(place.digest)
        return found

    def forget(self, name: str) -> None:
        """Delete what has been committed. To be called in ``committing``."""
        _delete(self._own / store_name(name))

    def stamp(self, name: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """What tells one state of an upload's files from another; empty where there are none."""
        folder = self._own / store_name(name) / _FILES
        with translated("looking at an upload"):
            return tuple(sorted((str(path), _stamp(status)) for path, status in _statuses(_files_below(folder))))

    def discard(self, name: str) -> bool:
        """Delete an upload; say whether there was one.

        Raises:
            UploadBusy: somebody is writing to it.
        """
        folder = self._own / store_name(name)
        if not folder.is_dir():
            return False
        with translated("deleting an upload"), self._locked(name):
            _delete(folder)
        return True

    def clean(self, *, older_than_s: float = ABANDONED_AFTER_S) -> None:
        """Delete the uploads that nobody has touched for that long."""
        if not self.root.is_dir():
            return
        for folder in self.root.glob("*/*"):
            # Others' uploads come and go meanwhile; what has gone is nobody's concern.
            touched = [status.st_mtime for _, status in _statuses([folder, *_files_below(folder)])]
            if touched and max(touched) < time.time() - older_than_s:
                remove_tree(folder)

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
        return [path for folder in folders for path in _files_below(folder)]

    def _is_locked(self, name: str, file: str) -> bool:
        try:
            with self._locked(name, file):
                return False
        except UploadBusy:
            return True

    @contextmanager
    def _locked(self, name: str, file: str = _LOCK) -> Iterator[None]:
        """Keep others from this upload; the kernel lets go when the process dies."""
        descriptor = os.open(self._own / name / file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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

    def __init__(
        self,
        descriptor: int,
        place: _Place,
        running: _Running | None,
        *,
        limit: int,
        room: Room,
        at: int,
        min_free_bytes: int,
    ) -> None:
        self._descriptor, self._place, self._limit, self._room = descriptor, place, limit, room
        self._running = running
        self._unsynced = 0
        self._min_free_bytes = min_free_bytes
        self.offset = at

    def write(self, chunk: bytes) -> None:
        """Append bytes.

        Raises:
            ModelRejected: they are more than the file, or the upload, may have.
            StoreFull: they are more than the owner may have.
            NoSpace: the disk is full, or nearly, or all owners have as much as they may.
        """
        self._room.check(self.offset + len(chunk))
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
            self._unsynced += len(chunk)
            if self._unsynced >= _SYNC_BYTES:
                os.fdatasync(self._descriptor)
                self._unsynced = 0
        self.offset += len(chunk)
        if self._running is not None:
            self._running.hasher.update(chunk)

    def finish(self, sha256: str | None = None) -> Received:
        """Say that all of the file is there.

        Args:
            sha256: hexadecimal digest that it must have.

        Raises:
            DigestMismatch: it has another; what was received is deleted. Where the digest is not known yet, the commit
                says so.
        """
        part = self._place.part
        found = None if self._running is None else self._running.hasher.hexdigest()
        with translated("finishing an upload"):
            os.ftruncate(self._descriptor, self.offset)
            os.fsync(self._descriptor)
            if None not in (found, sha256) and found != sha256:
                part.unlink()
                raise _mismatch()
            _Content(found, sha256, _stamp(os.fstat(self._descriptor))).write(self._place.digest)
            part.rename(self._place.file)
        return Received(self.offset, complete=True, sha256=found)


def _mismatch() -> DigestMismatch:
    return DigestMismatch("the file that arrived is not the one that was sent", hint="send it again")


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    # Not the time at which its names changed: a commit gives it another one.
    return status.st_ino, status.st_size, status.st_mtime_ns


def _delete(folder: Path) -> None:
    """Delete a folder.

    Raises:
        StoreUnavailable: something of it cannot be deleted.
    """
    if not remove_tree(folder):
        raise StoreUnavailable("deleting an upload failed", hint="check the disk and its permissions")


def _files_below(folder: Path) -> list[Path]:
    """The regular files below a folder; none where there is none."""
    return [
        current / entry.name
        for current, entries in walk(folder)
        for entry in entries
        if entry.is_file(follow_symlinks=False)
    ]


def _statuses(paths: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """The paths that are there, and what they are: others' requests move and delete files."""
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            yield path, path.lstat()


def _bytes_of(files: list[Path]) -> int:
    return sum(status.st_size for _, status in _statuses(files))


def _sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
