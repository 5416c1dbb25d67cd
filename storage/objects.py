"""Artifacts in an object store: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.

::

    <prefix>/<audit>/index/<name>                  which files the folder has; written last, and whole
    <prefix>/<audit>/files/<name>/<write>/<file>   the files, under a fresh name for each write

A folder is there when its index is. An object is written whole or not at all, so nobody sees half of a folder, and a
folder that is written again takes the place of the old one in one step.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from storage.artifacts import AUDIT_ID, StoredFile, checked_audit
from storage.errors import StorageError, StorageUnavailable
from storage.folders import ArtifactFolder, checked_name
from storage.object_store import open_store, translated
from storage.untrusted_folder import MAX_FILES, FlatFile, described, folder_at, regular_file

_INDEX: Final = "index"
_FILES: Final = "files"
_MAX_INDEX_BYTES: Final = 4 * 1024**2
_PIECE_BYTES: Final = 8 * 1024**2
"""What one request carries. A request has half a minute, the library's own limit, so it must stay small."""
_MAX_PARTS: Final = 9_000
_UPLOADS_AT_ONCE: Final = 4

log = structlog.get_logger(__name__)


class _Index(BaseModel):
    """What an index object holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    write: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    files: Annotated[tuple[FlatFile, ...], Field(max_length=MAX_FILES)]


class ObjectArtifacts:
    """The finished artifacts of all audits, below one prefix of a bucket. Several processes may use the same prefix.

    Args:
        location: ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``az://account/container/prefix``.

    Raises:
        InvalidLocation: it is no such address, it holds more than that (a password, a query), or the library is not
            installed.
    """

    def __init__(self, location: str) -> None:
        self._store = open_store(location)

    def audits(self) -> Iterator[str]:
        """Ids of the audits that have something here, sorted.

        Raises:
            StorageUnavailable
        """
        yield from sorted(name for name in self._folders("") if AUDIT_ID.fullmatch(name))

    def list(self, audit_id: str) -> list[str]:
        """Names of the finished artifacts of one audit, sorted.

        Raises:
            StorageUnavailable
        """
        prefix = f"{checked_audit(audit_id)}/{_INDEX}/"
        return sorted(path.removeprefix(prefix) for path in self._paths(prefix))

    def files(self, audit_id: str, name: str) -> tuple[StoredFile, ...] | None:
        """The files of a finished artifact, by name; None if there is none.

        Raises:
            StorageUnavailable
            ValueError: no artifact has such a name.
        """
        index = self._index(audit_id, name)
        return None if index is None else _stored(audit_id, name, index)

    def read(self, file: StoredFile, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of a file from ``start`` to before ``stop``, in pieces.

        Raises:
            StorageUnavailable: it does not answer, or the file has gone meanwhile.
        """
        import obstore

        for offset in range(start, stop, _PIECE_BYTES):
            with translated("reading an artifact"):
                piece = obstore.get_range(
                    self._store, str(file.key), start=offset, end=min(stop, offset + _PIECE_BYTES)
                )
            yield bytes(piece)

    def publish(self, audit_id: str, name: str, folder: Path, *, wanted: Callable[[], bool] = lambda: True) -> bool:
        """Copy a finished folder here; the same folder that is here already is not sent again.

        Only regular files right in the folder go along: a stranger's code may have filled it.

        Args:
            audit_id: whose artifact it is.
            name: of the artifact.
            folder: where its files lie.
            wanted: asked right before the folder becomes visible.

        Returns:
            Whether it is here now; False if it was not wanted any more.

        Raises:
            OSError: the folder cannot be read, or holds too many files.
            StorageUnavailable: the store did not take it; nothing of it is visible.
        """
        import obstore

        before = self._index(audit_id, name)
        with folder_at(folder) as root:
            index = _Index(write=secrets.token_hex(16), files=described(root))
            if before is not None and before.files == index.files:
                return True
            keys = _keys(audit_id, name, index)
            try:
                for key, file in zip(keys, index.files, strict=True):
                    self._send(key, root, file)
                if not wanted():
                    self._discard(keys)
                    return False
                with translated("writing an artifact's index"):
                    content = index.model_dump_json().encode()
                    obstore.put(self._store, _index_path(audit_id, name), content, use_multipart=False)
            except BaseException:
                self._discard(keys)
                raise
        if before is not None:
            self._discard(_keys(audit_id, name, before))
        return True

    def fetch(self, audit_id: str, name: str, into: ArtifactFolder) -> bool:
        """Copy an artifact from here into a local folder of its own, unless it is there.

        Returns:
            False if there is none, or what is here is not what its index says.

        Raises:
            OSError: the local disk refused.
            StorageUnavailable
        """
        index = self._index(audit_id, name)
        if index is None:
            return False
        if into.find(name) is not None:
            return True
        try:
            with into.create(name) as folder:
                for file, stored in zip(index.files, _stored(audit_id, name, index), strict=True):
                    digest = hashlib.sha256()
                    with (folder / file.name).open("xb") as opened:
                        for piece in self.read(stored, 0, file.size):
                            digest.update(piece)
                            opened.write(piece)
                    if digest.hexdigest() != file.sha256:
                        raise _Damaged
        except _Damaged:
            log.warning("artifact_damaged", audit_id=audit_id, name=name)
            return False
        return True

    def delete(self, audit_id: str) -> None:
        """Delete everything of one audit, what makes it visible first.

        Raises:
            StorageUnavailable: some of it may be left; call again.
        """
        for part in (_INDEX, _FILES):
            prefix = f"{checked_audit(audit_id)}/{part}/"
            with translated("deleting an audit's artifacts"):
                self._delete(self._paths(prefix))

    def probe(self) -> None:
        """Write, read and delete a small object.

        Raises:
            StorageUnavailable: one of the three cannot be done; the message says why.
        """
        import obstore

        key = f".probe-{secrets.token_hex(8)}"
        with translated("writing to the artifact store"):
            obstore.put(self._store, key, b"probe", use_multipart=False)
        with translated("reading from the artifact store"):
            obstore.get_range(self._store, key, start=0, end=5)
        with translated("deleting from the artifact store"):
            self._delete([key])

    # Inside

    def _index(self, audit_id: str, name: str) -> _Index | None:
        import obstore

        with translated("reading an artifact's index"):
            try:
                answer = obstore.get(self._store, _index_path(audit_id, name))
            except FileNotFoundError:
                return None
            if answer.meta["size"] > _MAX_INDEX_BYTES:
                raise StorageUnavailable("an artifact's index is not readable", hint="delete the audit")
            content = bytes(answer.bytes())
        try:
            return _Index.model_validate_json(content)
        except ValidationError as error:
            raise StorageUnavailable("an artifact's index is not readable", hint="delete the audit") from error

    def _send(self, key: str, root: int, file: FlatFile) -> None:
        import obstore

        piece = max(_PIECE_BYTES, -(-file.size // _MAX_PARTS))
        with regular_file(root, file.name) as opened:
            if opened is None:
                raise OSError("a file of an artifact changed while it was read")
            with translated("writing an artifact"):
                obstore.put(self._store, key, opened, chunk_size=piece, max_concurrency=_UPLOADS_AT_ONCE)

    def _paths(self, prefix: str) -> Iterator[str]:
        import obstore

        with translated("listing artifacts"):
            for page in obstore.list(self._store, prefix):
                yield from (entry["path"] for entry in page)

    def _folders(self, prefix: str) -> Iterable[str]:
        import obstore

        with translated("listing artifacts"):
            return obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]

    def _delete(self, paths: Iterable[str]) -> None:
        import obstore

        if chosen := [*paths]:
            obstore.delete(self._store, chosen)

    def _discard(self, keys: Iterable[str]) -> None:
        """Delete what no index names; what stays for a fault is deleted with its audit."""
        with suppress(StorageError), translated("tidying up"):
            self._delete(keys)


class _Damaged(Exception):
    """The bytes are not those that the index was written for."""


def _index_path(audit_id: str, name: str) -> str:
    return f"{checked_audit(audit_id)}/{_INDEX}/{checked_name(name)}"


def _keys(audit_id: str, name: str, index: _Index) -> list[str]:
    """The objects of the files, in the order of the index."""
    folder = f"{checked_audit(audit_id)}/{_FILES}/{checked_name(name)}/{index.write}"
    return [f"{folder}/{file.name}" for file in index.files]


def _stored(audit_id: str, name: str, index: _Index) -> tuple[StoredFile, ...]:
    return tuple(
        StoredFile(name=file.name, size_bytes=file.size, etag=f'"{file.sha256}"', key=key)
        for file, key in zip(index.files, _keys(audit_id, name, index), strict=True)
    )
