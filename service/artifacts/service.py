"""Which of an audit's artifacts are served, and their contents."""

from typing import Final

from service.artifacts.schemas import ArtifactFile, ArtifactKind, ArtifactOut
from service.dependencies import Dependencies
from service.errors import ArtifactNotFound
from service.http.public_url import link
from storage.artifacts import StoredFile

MAX_LISTED_FILES: Final = 10_000
"""Files that one list names: a stranger's code may have written any number."""
_KINDS: Final[tuple[tuple[str, ArtifactKind], ...]] = (
    ("dictionary-", "dictionary"),
    ("directions", "directions"),
    ("confirmation", "measurements"),
    ("tuned-", "activations"),
    ("base-", "activations"),
    ("decoy-", "activations"),
)
"""Prefixes of the names that are served. Anything else is the audit's internal state, or has a call of its own."""


def list_artifacts(dependencies: Dependencies, owner: str, audit_id: str) -> tuple[ArtifactOut, ...]:
    """The finished artifacts of an audit, by name, as far as they have ``MAX_LISTED_FILES`` together.

    Raises:
        AuditNotFound: the owner has no such audit.
    """
    dependencies.ledger.get(audit_id, owner=owner)
    found: list[ArtifactOut] = []
    files = 0
    for name in dependencies.artifacts.list(audit_id):
        artifact = _artifact(dependencies, audit_id, name)
        if artifact is None:
            continue
        files += len(artifact.files)
        if files > MAX_LISTED_FILES:
            break
        found.append(artifact)
    return tuple(found)


def get_artifact(dependencies: Dependencies, owner: str, audit_id: str, name: str) -> ArtifactOut:
    """One artifact with its files.

    Raises:
        AuditNotFound, ArtifactNotFound: as their names say.
    """
    dependencies.ledger.get(audit_id, owner=owner)
    artifact = _artifact(dependencies, audit_id, name)
    if artifact is None:
        raise ArtifactNotFound
    return artifact


def get_file(dependencies: Dependencies, owner: str, audit_id: str, name: str, file: str) -> StoredFile:
    """One file of an artifact.

    Raises:
        AuditNotFound, ArtifactNotFound: as their names say.
    """
    dependencies.ledger.get(audit_id, owner=owner)
    for stored in _files(dependencies, audit_id, name) or ():
        if stored.name == file:
            return stored
    raise ArtifactNotFound


def _kind(name: str) -> ArtifactKind | None:
    for prefix, kind in _KINDS:
        if name == prefix or (prefix.endswith("-") and name.startswith(prefix)):
            return kind
    return None


def _artifact(dependencies: Dependencies, audit_id: str, name: str) -> ArtifactOut | None:
    kind, stored = _kind(name), _files(dependencies, audit_id, name)
    if stored is None or kind is None:
        return None
    here = link(f"/audits/{audit_id}/artifacts/{name}")
    files = tuple(ArtifactFile(name=one.name, size_bytes=one.size_bytes, link=f"{here}/{one.name}") for one in stored)
    return ArtifactOut(name=name, kind=kind, size_bytes=sum(file.size_bytes for file in files), files=files)


def _files(dependencies: Dependencies, audit_id: str, name: str) -> tuple[StoredFile, ...] | None:
    """The files of a served artifact; None if there is none with this name."""
    if _kind(name) is None:
        return None
    try:
        return dependencies.artifacts.files(audit_id, name)
    except ValueError:
        return None  # No artifact can have such a name.
