"""Where audits' artifacts are kept: a folder, or an object store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from storage.artifacts import ArtifactStore, StoredFile
from storage.object_store import SCHEMES
from storage.objects import ObjectArtifacts


class Artifacts(Protocol):
    """What can be done with finished artifacts, wherever they are."""

    def audits(self) -> Iterator[str]:
        """Ids of the audits that have something, sorted."""

    def list(self, audit_id: str) -> list[str]:
        """Names of the finished artifacts of one audit, sorted."""

    def files(self, audit_id: str, name: str) -> tuple[StoredFile, ...] | None:
        """The files of a finished artifact, by name; None if there is none."""

    def read(self, file: StoredFile, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of a file from ``start`` to before ``stop``, in pieces."""

    def delete(self, audit_id: str) -> None:
        """Delete everything of one audit, if there is anything."""


def is_object_store(location: str | Path) -> bool:
    """Whether artifacts there are objects, not files."""
    return isinstance(location, str) and location.partition("://")[0] in SCHEMES and "://" in location


def open_artifacts(location: str | Path) -> ArtifactStore | ObjectArtifacts:
    """The artifacts at a location: a folder, its ``file://`` URL, or an object store's URL. Connects to nothing yet.

    Raises:
        InvalidLocation: it cannot be used; the message does not repeat it.
    """
    return ObjectArtifacts(str(location)) if is_object_store(location) else ArtifactStore(location)
