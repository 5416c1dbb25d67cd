"""The models that a service can use: a reference becomes a verified local folder with a content digest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import structlog

from backdoor_audit.contract.digests import content_digest
from common.settings import CommonSettings
from models_store.checkpoint import Checkpoint, CheckpointHeaders, ModelInfo
from models_store.commits import Commits
from models_store.committed import (
    COMMIT_MARKER,
    check_committed,
    digest_of,
    owner_of,
    write_committed,
    write_owner,
)
from models_store.digests import DigestCache, FileKey
from models_store.errors import (
    ModelNotFound,
    ModelsIncompatible,
    NameTaken,
    StoreError,
    UploadRefused,
    translated,
)
from models_store.files import listing
from models_store.places import Places
from models_store.references import parse_reference, store_name
from models_store.room import CommittedModels
from models_store.sources.hub import check_blob
from models_store.sources.mlflow_cache import FetchedVersions
from models_store.sources.mlflow_registry import MlflowRegistry, RegisteredVersion
from models_store.uploads import DEFAULT_LIMIT_BYTES, LOCAL_OWNER, MIN_FREE_BYTES, Uploads
from models_store.verification.pairs import check_pair
from models_store.verification.verify import VerifiedCheckpoint, verify_checkpoint
from models_store.view import CheckpointView, write_view
from storage.folders import ArtifactFolder

MOST_MODELS: Final = 1_000
"""Models of the store that an owner may have."""

log = structlog.get_logger(__name__)

_WEIGHTS: Final = ("adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json")


class ModelsStore:
    """Finds, checks and keeps checkpoints.

    Args:
        models_root: where ``local:`` references look; never written to.
        store_dir: where ``store:`` models and the cache of digests are kept.
        hub_dir: a folder in the hub cache's layout, for ``hf:`` references.
        offline: whether nothing may be downloaded.
        allowed_organisations: hub organisations whose repositories may be used.
        hub_endpoint: address of the hub; its public one by default.
        upload_limit_bytes: the most bytes that one uploaded checkpoint may have.
        upload_min_free_bytes: what an upload leaves free on the disk.
        owner_limit_bytes: the most bytes that one owner's models and uploads may have together; None is no bound.
        total_limit_bytes: the most bytes that all models and uploads may have together; nine tenths of the disk by
            default.
        registry: the MLflow registry that ``mlflow:`` references name versions of; None if there is none.
    """

    def __init__(
        self,
        *,
        models_root: Path,
        store_dir: Path,
        hub_dir: Path | None = None,
        offline: bool = True,
        allowed_organisations: frozenset[str] = frozenset(),
        hub_endpoint: str | None = None,
        upload_limit_bytes: int = DEFAULT_LIMIT_BYTES,
        upload_min_free_bytes: int = MIN_FREE_BYTES,
        owner_limit_bytes: int | None = None,
        total_limit_bytes: int | None = None,
        registry: MlflowRegistry | None = None,
    ) -> None:
        store_dir = store_dir.resolve()
        self._models = ArtifactFolder(store_dir / "models")
        self._committed = CommittedModels(
            self._models, owner_limit_bytes=owner_limit_bytes, total_limit_bytes=total_limit_bytes
        )
        self._digests = DigestCache(store_dir)
        self._places = Places(
            models_root=models_root.resolve(),
            models=self._models,
            fetched=FetchedVersions(store_dir / "mlflow", registry),
            hub_dir=None if hub_dir is None else hub_dir.resolve(),
            hub_endpoint=hub_endpoint,
            allowed_organisations=allowed_organisations,
            offline=offline,
        )
        self.uploads = Uploads(
            store_dir / "uploads",
            limit_bytes=upload_limit_bytes,
            min_free_bytes=upload_min_free_bytes,
            room=self._committed.room,
        )
        self._commits: Commits[Checkpoint] = Commits()
        self._listed: dict[Path, tuple[tuple[tuple[str, FileKey], ...], VerifiedCheckpoint]] = {}

    @classmethod
    def from_settings(
        cls,
        settings: CommonSettings,
        *,
        upload_limit_bytes: int = DEFAULT_LIMIT_BYTES,
        upload_min_free_bytes: int = MIN_FREE_BYTES,
        owner_limit_bytes: int | None = None,
        total_limit_bytes: int | None = None,
    ) -> Self:
        """The store that the API and the workers of one service share."""
        return cls(
            models_root=settings.models_root,
            store_dir=settings.store_dir,
            hub_dir=settings.hub_dir,
            offline=settings.offline,
            allowed_organisations=settings.allowed_organisations,
            upload_limit_bytes=upload_limit_bytes,
            upload_min_free_bytes=upload_min_free_bytes,
            owner_limit_bytes=owner_limit_bytes,
            total_limit_bytes=total_limit_bytes,
            registry=MlflowRegistry.from_settings(settings),
        )

    def resolve(self, reference: str) -> Checkpoint:
        """Turn a reference into a verified local folder; downloads where that is allowed.

        Raises:
            InvalidReference: the text is no reference.
            ModelNotFound: nothing is there under it.
            ModelRejected: something is there that is not opened, or whose content is not what was committed.
            StoreUnavailable: the disk, the hub or the registry did not answer.
        """
        parsed = parse_reference(reference)
        folder, root = self._places.locate(parsed)
        verified = verify_checkpoint(folder, root)
        with translated("reading the checkpoint"):
            state = tuple(FileKey.of(file.path, file.path.lstat()) for file in verified.files)
            digests = [(file.name, self._digests.digest(file)) for file in verified.files]
            if parsed.scheme == "hf":
                for file, (_, digest) in zip(verified.files, digests, strict=True):
                    check_blob(file, digest)
        if parsed.scheme in ("store", "mlflow"):
            check_committed(folder.parent / COMMIT_MARKER, dict(digests))
        checkpoint = Checkpoint.of(verified, digests, state)
        checkpoint.check_unchanged()
        log.info("model resolved", reference=str(parsed), kind=checkpoint.kind, digest=checkpoint.digest)
        return checkpoint

    def headers(self, reference: str) -> CheckpointHeaders:
        """Verify a checkpoint by its headers, without reading its weights and without downloading anything.

        Raises:
            InvalidReference, ModelNotFound, ModelRejected, StoreUnavailable: as ``resolve``.
        """
        folder, root = self._places.locate(parse_reference(reference), offline=True)
        verified = self._verified_unless_known(folder, root)
        with translated("looking at a checkpoint"):
            digest = self._known_digest(verified)
        return CheckpointHeaders.of(verified, digest)

    def check_fit(self, base: CheckpointHeaders, tuned: CheckpointHeaders) -> tuple[str, ...]:
        """Check that a fine-tuned checkpoint belongs to a base, as far as headers tell.

        Returns:
            What an audit's reader must know about the pair, a sentence each.

        Raises:
            ModelsIncompatible: they do not belong together.
        """
        notes = check_pair(base.checkpoint, tuned.checkpoint)
        if base.digest is not None:
            _check_recorded(tuned.checkpoint.base_digest, base.digest)
        return notes

    def fetched_digest(self, version: RegisteredVersion) -> str | None:
        """The content digest of a registered version, as it is registered now; None if it was never fetched.

        Raises:
            StoreUnavailable: the disk did not answer.
        """
        with translated("looking at a registered model"):
            return self._places.fetched.digest_of(version)

    def main_file(self, reference: str) -> str | None:
        """Name of the file that a model's weights begin in; None if it is not on this machine (any more)."""
        try:
            parsed = parse_reference(reference)
            if parsed.scheme in ("hf", "mlflow"):
                return None
            folder, _ = self._places.locate(parsed)
            return next((name for name in _WEIGHTS if (folder / name).is_file()), None)
        except (StoreError, OSError):
            return None

    def references(self) -> tuple[str, ...]:
        """References of everything under the models root and in the store that looks like a checkpoint, unchecked."""
        with translated("listing the models"):
            return tuple(reference for reference, _, _ in self._places.candidates())

    def list(self) -> list[ModelInfo]:
        """Every model under the models root and in the store; refused ones with the reason."""
        models: list[ModelInfo] = []
        for reference, folder, root in self._places.candidates():
            name = reference.partition(":")[2]
            try:
                verified = self._verified_unless_known(folder, root)
                digest = self._known_digest(verified)
            except (StoreError, OSError) as error:
                reason = error.message if isinstance(error, StoreError) else "it cannot be read"
                models.append(ModelInfo(reference, name, None, None, 0, None, reason))
                continue
            models.append(ModelInfo(reference, name, verified.kind, verified.architecture, verified.size_bytes, digest))
        return models

    def commit(self, name: str, *, owner: str = LOCAL_OWNER) -> Checkpoint:
        """Check an owner's finished upload and make it a model of the store, in one step; twice changes nothing.

        Files whose digest is not known are read here, however large they are.

        Raises:
            ModelNotFound: nothing was uploaded under this name, and the store has no such model.
            UploadIncomplete: a file of it is not all there.
            UploadBusy: somebody is writing to the upload, or commits it.
            DigestMismatch: a file is not the one that was sent; it is deleted, the others stay.
            ModelRejected: the checkpoint is not one that is opened; the upload stays, to be mended or deleted.
            NameTaken: another model has that name.
            UploadRefused: the owner has as many models as one may have.
            StoreFull: the owner's models are as large as they may be.
            NoSpace: the disk is full, or all models are as large as they may be.
        """
        uploads = self.uploads.of(owner)
        try:
            with uploads.committing(name) as folder:
                read = self._keep(name, verify_checkpoint(folder), owner)
                uploads.forget(name)
        except ModelNotFound:
            return self.resolve(f"store:{name}")
        # Only now: losing its other name has changed the times by which a file is told from another.
        self._remember(name, read)
        return self.resolve(f"store:{name}")

    def commit_soon(self, name: str, *, owner: str, patience_s: float) -> Checkpoint | None:
        """As ``commit``, in a thread: None where that takes longer than ``patience_s``. Asking again joins it.

        Raises:
            StoreError: as ``commit``.
        """
        state = self.uploads.of(owner).stamp(name)
        return self._commits.outcome((owner, name), state, lambda: self.commit(name, owner=owner), patience_s)

    def has(self, name: str, *, owner: str | None) -> bool:
        """Whether the store has a model of this name and owner; None is anybody."""
        place = self._models.find(store_name(name))
        return place is not None and (owner is None or owner_of(place) == owner)

    def remove(self, name: str, *, owner: str = LOCAL_OWNER, anybodys: bool = True) -> None:
        """Delete a model of the store, and what its owner has uploaded under its name.

        Args:
            name: in the store.
            owner: whose upload is deleted.
            anybodys: whether the model may be another owner's, too. One from before models had owners is nobody's.

        Raises:
            ModelNotFound: there is neither, or the model is another owner's.
            UploadBusy: somebody is writing to the upload.
        """
        own = self.has(name, owner=None if anybodys else owner)
        if not self.uploads.of(owner).discard(name) and not own:
            raise ModelNotFound(f"you have no model store:{name}", hint="list the models")
        if not own:
            return
        with translated("deleting a model"):
            self._models.remove(name)
        log.info("model deleted", reference=f"store:{name}")

    def _keep(self, name: str, source: VerifiedCheckpoint, owner: str) -> dict[int, str]:
        """Make a verified upload a model of the store; return the digests of its files, by inode."""
        uploads = self.uploads.of(owner)
        digests = {file.name: uploads.digest(name, file.name) for file in source.files}
        digest = content_digest(list(digests.items()))
        place = self._models.find(name)
        if place is None:
            if self._committed.count(owner) >= MOST_MODELS:
                raise UploadRefused(f"you have {MOST_MODELS} models in the store", hint="delete one of them first")
            self._committed.room(owner).check(source.size_bytes)
            with translated("moving a checkpoint into the store"), self._models.create(name) as folder:
                write_committed(source, folder, digests)
                write_owner(folder, owner)
            place = self._models.find(name)  # another process may have been faster
        if place is None or digest_of(place) != digest:
            raise NameTaken(f"store:{name} is another model already", hint="choose another name, or delete that model")
        log.info("model imported", reference=f"store:{name}", digest=digest)
        with translated("looking at an upload"):
            return {file.path.stat().st_ino: digests[file.name] for file in source.files}

    def _remember(self, name: str, digests: Mapping[int, str]) -> None:
        """Take what was computed while the bytes came for the digests of the very same files."""
        folder, root = self._places.locate(parse_reference(f"store:{name}"))
        with translated("looking at a checkpoint"):
            for file in verify_checkpoint(folder, root).files:
                known = digests.get(file.path.stat().st_ino)
                if known is not None:
                    self._digests.remember(file, known)

    def view(self, checkpoint: Checkpoint, folder: Path) -> CheckpointView:
        """Write the private view of a checkpoint, which is all that a sandbox opens of it.

        Args:
            checkpoint: what ``resolve`` returned.
            folder: made here; nobody else may write to it.

        Raises:
            ModelRejected: it changed since it was resolved.
            NoSpace, StoreUnavailable: the folder cannot be written.
        """
        return write_view(verify_checkpoint(checkpoint.path, checkpoint.root), folder)

    def check_pair(self, base: Checkpoint, tuned: Checkpoint) -> tuple[str, ...]:
        """Check that a fine-tuned checkpoint belongs to a base: architecture, modules, shapes, recorded digest.

        Returns:
            What an audit's reader must know about the pair, a sentence each.

        Raises:
            ModelRejected: one of them changed since it was resolved.
            ModelsIncompatible: they do not belong together.
        """
        notes = check_pair(verify_checkpoint(base.path, base.root), verify_checkpoint(tuned.path, tuned.root))
        _check_recorded(tuned.base_digest, base.digest)
        return notes

    def _known_digest(self, verified: VerifiedCheckpoint) -> str | None:
        """The content digest of a checkpoint whose files have all been read before; None of any other."""
        digests = [(file.name, self._digests.cached(file)) for file in verified.files]
        known = [(name, digest) for name, digest in digests if digest is not None]
        return content_digest(known) if len(known) == len(digests) else None

    def _verified_unless_known(self, folder: Path, root: Path) -> VerifiedCheckpoint:
        """Verify once, and again only when a file changed: a list is asked for often, and every filing looks."""
        with translated("looking at a checkpoint"):
            files = listing(folder.resolve(), root).files
            state = tuple((file.name, FileKey.of(file.path, file.path.lstat())) for file in files)
        known = self._listed.get(folder)
        if known is not None and known[0] == state:
            return known[1]
        verified = verify_checkpoint(folder, root)
        self._listed[folder] = (state, verified)
        return verified


def _check_recorded(recorded: str | None, base: str) -> None:
    """Hold the digest of a base that an adapter records against the base's.

    Raises:
        ModelsIncompatible: it is another.
    """
    if recorded is not None and recorded != base:
        raise ModelsIncompatible(
            "the adapter records the digest of another base",
            hint="audit it on the base it was trained on, or delete its 'base_digest' if the note is wrong",
        )
