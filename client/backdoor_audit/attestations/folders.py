"""Holds the files of a folder against those that an attestation lists."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from backdoor_audit.attestations.errors import BadAttestation
from backdoor_audit.client.checkpoint_files import FolderFiles, sha256_of
from backdoor_audit.client.errors import WrongUsage
from backdoor_audit.contract.attestation import Statement
from backdoor_audit.contract.checkpoint_files import CARD


@dataclass(frozen=True)
class FolderComparison:
    """A folder beside what was audited; all names are paths in the folder, sorted.

    Attributes:
        changed: files with another content.
        missing: files that the folder does not have.
        added: files that are not in the attestation, but from which a model would be read.
        not_covered: files from which no model is read: the attestation says nothing of them.
    """

    changed: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]
    not_covered: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether the folder holds what was audited."""
        return not (self.changed or self.missing or self.added)


def read_statement(payload: bytes) -> Statement:
    """Parse the payload of an attestation; fields that a later version adds are ignored.

    Raises:
        BadAttestation: it is no statement about an audit, or its digests contradict one another.
    """
    try:
        return Statement.model_validate_json(payload, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"/{part}" for part in first["loc"]) or "the statement"
        raise BadAttestation(f"it is no attestation of an audit: {place}: {first['msg']}") from None


def compare(folder: Path, statement: Statement) -> FolderComparison:
    """Read every file of a checkpoint's folder that counts, or that is attested.

    Raises:
        WrongUsage: the folder cannot be read.
    """
    attested: Mapping[str, str] = {each.name: each.digest for each in statement.predicate.resources}
    try:
        files = FolderFiles.of(folder)
        counted = files.counted - {CARD}
        digests = {name: sha256_of(files.paths[name]) for name in sorted(counted | (attested.keys() & files.paths))}
    except OSError as error:
        raise WrongUsage(f"{folder} cannot be read: {error.strerror}") from error
    return FolderComparison(
        changed=tuple(name for name in attested if name in digests and digests[name] != attested[name]),
        missing=tuple(sorted(attested.keys() - digests.keys())),
        added=tuple(sorted(digests.keys() - attested.keys())),
        not_covered=tuple(sorted(files.paths.keys() - digests.keys())),
    )
