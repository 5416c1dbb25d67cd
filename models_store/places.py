"""Where references lead: to the models root, the store, a cache of the hub, or what was fetched from a registry."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from models_store.committed import COMMIT_MARKER, FILES_FOLDER
from models_store.discovery import checkpoint_folders
from models_store.errors import ModelNotFound, StoreError
from models_store.references import Reference, parse_reference
from models_store.sources import hub
from models_store.sources.mlflow_cache import FetchedVersions
from storage.folders import ArtifactFolder

log = structlog.get_logger(__name__)

_MAX_LISTED: Final = 10_000


@dataclass(frozen=True)
class Places:
    """The folders of all references.

    Attributes:
        models_root: of ``local:`` references, links resolved.
        models: of ``store:`` references.
        fetched: of ``mlflow:`` references.
        hub_dir: of ``hf:`` references, in the layout of the hub's cache; None where there is none.
        hub_endpoint: address of the hub; its public one by default.
        allowed_organisations: hub organisations whose repositories may be used.
        offline: whether nothing may be downloaded.
    """

    models_root: Path
    models: ArtifactFolder
    fetched: FetchedVersions
    hub_dir: Path | None
    hub_endpoint: str | None
    allowed_organisations: frozenset[str]
    offline: bool

    def locate(self, reference: Reference, *, offline: bool = False) -> tuple[Path, Path]:
        """Folder and root of a reference; downloads unless ``offline``, or the whole store, says no.

        Raises:
            ModelNotFound: nothing is there under it.
            ModelRejected: the hub's organisation, or the registered model, is not allowed.
            StoreUnavailable: the disk, the hub or the registry did not answer.
        """
        if reference.scheme == "hf":
            return hub.snapshot(
                reference,
                hub_dir=self.hub_dir,
                offline=offline or self.offline,
                allowed_organisations=self.allowed_organisations,
                endpoint=self.hub_endpoint,
            )
        if reference.scheme == "mlflow":
            return self.fetched.locate(reference, offline=offline or self.offline)
        if reference.scheme == "store":
            place = self.models.find(reference.name)
            if place is None or not (place / COMMIT_MARKER).is_file():
                raise ModelNotFound(f"{reference}: is not in the store", hint="list the models, or upload it first")
            return place / FILES_FOLDER, place
        folder = self.models_root / reference.name
        if not folder.exists():
            raise ModelNotFound(
                f"{reference}: is not under the models root",
                hint="list the models; the path is relative to that folder",
            )
        return folder, self.models_root

    def candidates(self) -> Iterator[tuple[str, Path, Path]]:
        """Reference, folder and root of everything that looks like a checkpoint."""
        for count, folder in enumerate(checkpoint_folders(self.models_root)):
            if count >= _MAX_LISTED:
                log.warning("more models than are listed", limit=_MAX_LISTED)
                break
            reference = f"local:{folder.relative_to(self.models_root).as_posix()}"
            try:
                parse_reference(reference)
            except StoreError:
                continue  # A name that no reference can spell.
            yield reference, folder, self.models_root
        for name in self.models.names():
            place = self.models.root / name
            if (place / COMMIT_MARKER).is_file():
                yield f"store:{name}", place / FILES_FOLDER, place
        if self.hub_dir is not None:
            yield from hub.snapshots(self.hub_dir, self.allowed_organisations)
        yield from self.fetched.listed()
