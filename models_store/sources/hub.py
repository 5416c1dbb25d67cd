"""Hub repositories at one commit, in the hub cache's own layout; fetched only where that is allowed."""

import glob
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from backdoor_audit.contract.checkpoint_files import CONFIG, fetched, gguf_files
from models_store.errors import ModelNotFound, ModelRejected, StoreError, StoreUnavailable, translated
from models_store.files import FoundFile, open_regular, shown
from models_store.references import Reference, parse_reference
from models_store.verification.gguf import require_one_model

_CONNECT_TIMEOUT_S: Final = 10.0
_DIGEST: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_CHUNK_BYTES: Final = 4 * 1024**2


def repository_folder(hub_dir: Path, reference: Reference) -> Path:
    """The folder of a repository in a hub cache."""
    return hub_dir / f"models--{reference.name.replace('/', '--')}"


def snapshot(
    reference: Reference,
    *,
    hub_dir: Path | None,
    offline: bool,
    allowed_organisations: frozenset[str],
    endpoint: str | None = None,
) -> tuple[Path, Path]:
    """The folder of a hub repository at one commit, downloaded when it is not there yet.

    Args:
        reference: an ``hf`` reference; its commit is complete.
        hub_dir: a folder in the hub cache's layout (``models--org--repo/snapshots/<commit>``).
        offline: whether nothing may be downloaded; what is there already is used.
        allowed_organisations: organisations whose repositories may be used.
        endpoint: address of the hub; its public one by default.

    Returns:
        The snapshot, and the repository's folder that its links stay inside.

    Raises:
        ModelRejected: the organisation is not allowed; or it is offline and the commit is not there.
        ModelNotFound: the hub has no such repository or commit.
        StoreUnavailable: the hub could not be reached.
    """
    if reference.organisation not in allowed_organisations:
        raise ModelRejected(
            f"{reference}: the organisation '{reference.organisation}' is not allowed",
            hint="ask the operator to add it to BACKDOOR_AUDIT_ALLOWED_ORGANISATIONS, or use a local: reference",
        )
    if hub_dir is not None:
        repository = repository_folder(hub_dir, reference)
        there = repository / "snapshots" / str(reference.commit)
        # Only a mark tells a whole download from one that was cut short; offline, verification judges what is there.
        if there.is_dir() and (offline or _mark(repository, reference).exists()):
            return there, repository
    if offline or hub_dir is None:
        raise ModelRejected(
            f"{reference}: is not on this machine, and this service is offline",
            hint="copy the checkpoint under the models root and use a local: reference, or let the service go online",
        )
    repository = repository_folder(hub_dir, reference)
    folder = _download(reference, hub_dir, endpoint)
    with translated("marking a download as whole"):
        _mark(repository, reference).touch()
    return folder, repository


def check_blob(file: FoundFile, sha256: str) -> None:
    """Hold a file of a hub cache against its blob's name, where that is a digest: SHA-256, or git's.

    Raises:
        ModelRejected: it is another file.
    """
    name = file.path.name
    if file.path.parent.name != "blobs" or _DIGEST.fullmatch(name) is None:
        return
    if name != (sha256 if len(name) == 64 else _git_digest(file)):
        raise ModelRejected(
            f"{shown(file.name)}: is not the file that the hub cache names (digest mismatch)",
            hint="delete it from the cache and download it again",
        )


def _git_digest(file: FoundFile) -> str:
    hasher = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    with open_regular(file.path, file.name) as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()


def snapshots(hub_dir: Path, allowed_organisations: frozenset[str]) -> Iterator[tuple[str, Path, Path]]:
    """Reference, folder and root of every snapshot of an allowed organisation that is on this machine."""
    for folder in sorted(hub_dir.glob("models--*--*/snapshots/*")):
        repository = folder.parent.parent
        name = repository.name.removeprefix("models--").replace("--", "/", 1)
        try:
            reference = parse_reference(f"hf:{name}@{folder.name}")
        except StoreError:
            continue  # Another tool's folder.
        if reference.organisation in allowed_organisations:
            yield str(reference), folder, repository


def _mark(repository: Path, reference: Reference) -> Path:
    return repository / f".whole-{reference.commit}"


def _download(reference: Reference, hub_dir: Path, endpoint: str | None) -> Path:
    # Imported here: an offline service never needs it.
    import httpx
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub import errors as hub_errors

    missing: tuple[type[Exception], ...] = (
        hub_errors.RepositoryNotFoundError,
        hub_errors.RevisionNotFoundError,
        hub_errors.GatedRepoError,
    )
    unreachable: tuple[Any, ...] = (
        hub_errors.HfHubHTTPError,
        hub_errors.LocalEntryNotFoundError,
        hub_errors.OfflineModeIsEnabled,
        httpx.HTTPError,
        OSError,
    )
    try:
        # One quick question first: the library itself tries for half a minute before it gives up.
        httpx.head(endpoint or constants.ENDPOINT, timeout=_CONNECT_TIMEOUT_S)
        there = HfApi(endpoint, token=False).model_info(reference.name, revision=reference.commit).siblings or []
        folder = snapshot_download(
            reference.name,
            revision=reference.commit,
            cache_dir=hub_dir,
            allow_patterns=_patterns({file.rfilename for file in there}),
            endpoint=endpoint,
            token=False,
        )
    except missing as error:
        raise ModelNotFound(
            f"{reference}: the hub has no such repository or commit that is open to everyone",
            hint="check the name and the commit",
        ) from error
    except unreachable as error:
        raise StoreUnavailable(f"{reference}: the hub could not be reached", hint="try again later") from error
    return Path(folder)


def _patterns(names: set[str]) -> list[str]:
    """What is asked for: files that count; pickles of the same repository are never downloaded.

    Raises:
        ModelRejected: several models in GGUF files, each of which may be large.
    """
    if packed := gguf_files(names):
        require_one_model(packed)
    # A name may hold what a pattern gives a meaning to; without any file, the library would fetch all.
    return [glob.escape(name) for name in sorted(fetched(names))] or [CONFIG]
