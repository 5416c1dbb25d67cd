"""The finished artifacts of audits on a local disk: a folder for each audit, in it a folder for each artifact."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from storage.disk import discard
from storage.errors import InvalidLocation, translated
from storage.folders import NAME, ArtifactFolder
from storage.untrusted_folder import MAX_FILES

AUDIT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_PIECE_BYTES: Final = 1024**2


@dataclass(frozen=True)
class StoredFile:
    """One file of a finished artifact.

    Attributes:
        name: of the file.
        size_bytes: how long it is.
        etag: changes when its content does; in quotes, as HTTP has it.
        path: where it lies on this machine; None in an object store.
        key: its object's; None on a disk.
    """

    name: str
    size_bytes: int
    etag: str
    path: Path | None = None
    key: str | None = None


class ArtifactStore:
    """The artifacts of all audits on a disk: one ``ArtifactFolder`` for each.

    Args:
        location: a folder, or its ``file://`` URL.

    Raises:
        InvalidLocation: another kind of URL.
    """

    def __init__(self, location: str | Path) -> None:
        self.root = _local_folder(location)

    def folder(self, audit_id: str) -> ArtifactFolder:
        """The folder of one audit; nothing is made until something is written."""
        return ArtifactFolder(self.root / checked_audit(audit_id))

    def audits(self) -> Iterator[str]:
        """Ids of the audits that have a folder, sorted."""
        for name in ArtifactFolder(self.root).names():
            if AUDIT_ID.fullmatch(name):
                yield name

    def list(self, audit_id: str) -> list[str]:
        """Names of the finished artifacts of one audit, at most ``MAX_FILES``."""
        return list(self.folder(audit_id).names(most=MAX_FILES))

    def files(self, audit_id: str, name: str) -> tuple[StoredFile, ...] | None:
        """The regular files right in a finished artifact, by name; None if there is none. Links are not followed.

        A stranger's code may have filled the folder: names that no artifact has are left out, and so is what is more
        than ``MAX_FILES``.

        Raises:
            StorageUnavailable: the disk refused.
            ValueError: no artifact has such a name.
        """
        folder = self.folder(audit_id).find(name)
        if folder is None:
            return None
        with translated("looking at an artifact"):
            with os.scandir(folder) as entries:
                names = nsmallest(MAX_FILES, (entry.name for entry in entries if NAME.fullmatch(entry.name)))
            found = [(folder / name, (folder / name).lstat()) for name in names]
        return tuple(
            StoredFile(
                name=path.name,
                size_bytes=status.st_size,
                etag=f'"{status.st_size:x}-{status.st_mtime_ns:x}"',
                path=path,
            )
            for path, status in found
            if stat.S_ISREG(status.st_mode)
        )

    def read(self, file: StoredFile, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of a file from ``start`` to before ``stop``, in pieces.

        Raises:
            StorageUnavailable: the disk refused, or the file has gone meanwhile.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with translated("reading an artifact"), os.fdopen(os.open(file.path or "", flags), "rb") as opened:
            opened.seek(start)
            while start < stop and (piece := opened.read(min(_PIECE_BYTES, stop - start))):
                start += len(piece)
                yield piece

    def delete(self, audit_id: str) -> None:
        """Delete everything of one audit, if there is anything.

        Raises:
            StorageUnavailable: the disk refused.
        """
        with translated("deleting an audit's artifacts"):
            discard(self.root, self.root / checked_audit(audit_id))
            ArtifactFolder(self.root).clean()


def _local_folder(location: str | Path) -> Path:
    if isinstance(location, Path) or "://" not in location:
        return Path(location)
    parts = urlsplit(location)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise InvalidLocation(
            f"artifacts cannot be kept at a {parts.scheme}:// address",
            hint="give a folder, file:///folder, s3://bucket/prefix, gs://bucket/prefix or "
            "az://account/container/prefix",
        )
    return Path(unquote(parts.path))


def checked_audit(audit_id: str) -> str:
    """Return ``audit_id`` when an audit may have it.

    Raises:
        ValueError: it may not.
    """
    if AUDIT_ID.fullmatch(audit_id) is None:
        raise ValueError("an audit's id is letters, digits, _ and -")
    return audit_id
