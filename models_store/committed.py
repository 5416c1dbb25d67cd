"""A model of the store on the disk: its files, and a marker that says what was committed."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from backdoor_audit.contract.checkpoint_files import counting
from backdoor_audit.contract.digests import content_digest
from models_store.errors import ModelRejected
from models_store.files import MiB, shown
from models_store.verification.strict_json import read_object
from models_store.verification.verify import VerifiedCheckpoint, verify_checkpoint

COMMIT_MARKER: Final = "commit.json"
FILES_FOLDER: Final = "files"
_OWNER: Final = "owner.json"


def write_committed(source: VerifiedCheckpoint, place: Path, digests: Mapping[str, str]) -> str:
    """Link what counts of a checkpoint into ``place``, on the same disk, check it again, and mark it as committed.

    Args:
        source: what was uploaded, kept from its writers.
        place: a new folder.
        digests: of its files, by name. Every use of the model holds its files against them.

    Returns:
        The content digest of what was linked.
    """
    copy = place / FILES_FOLDER
    for file in source.files:
        target = copy / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        # The other name goes right afterwards; until then a commit that breaks off can be asked for again.
        os.link(file.path, target, follow_symlinks=False)
    if source.base_digest is not None:
        (copy / "card.json").write_text(json.dumps({"base_digest": source.base_digest}), encoding="utf-8")
    known = [(file.name, digests[file.name]) for file in verify_checkpoint(copy).files]
    marker = {"digest": content_digest(known), "files": dict(known)}
    (place / COMMIT_MARKER).write_text(json.dumps(marker, indent=1), encoding="utf-8")
    return content_digest(known)


def digest_of(place: Path) -> str | None:
    """The content digest that a model of the store was committed with; None where it has none."""
    digest = read_object(place / COMMIT_MARKER, COMMIT_MARKER, limit=1 * MiB).get("digest")
    return digest if isinstance(digest, str) else None


def check_committed(marker: Path, digests: dict[str, str]) -> None:
    """Hold what is in the store against what was committed.

    Raises:
        ModelRejected: a file differs, is missing, or was added.
    """
    committed: Any = read_object(marker, COMMIT_MARKER, limit=1 * MiB).get("files")
    if not isinstance(committed, dict):
        raise ModelRejected(f"{COMMIT_MARKER}: lists no files", hint="delete the model and upload it again")
    # What was committed before files like vocab.json stopped to count may list more than is read today.
    for name in sorted(digests.keys() | {name for name in committed if name in counting(committed)}):
        if committed.get(name) != digests.get(name):
            raise ModelRejected(
                f"{shown(name)}: its content is not what was committed (digest mismatch)",
                hint="delete the model and upload it again",
            )


def write_owner(place: Path, owner: str) -> None:
    """Note whose model is being committed."""
    (place / _OWNER).write_text(json.dumps({"owner": owner}), encoding="utf-8")


def owner_of(place: Path) -> str | None:
    """Whose model it is; None for one that was committed before models had owners."""
    path = place / _OWNER
    owner = read_object(path, _OWNER, limit=1 * MiB).get("owner") if path.is_file() else None
    return owner if isinstance(owner, str) else None
