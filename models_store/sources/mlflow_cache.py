"""Versions of registered models that were fetched: kept as what the store commits, one folder a version.

A version's folder is named by where it came from, so that a model that was deleted and registered again under the same
name and number is another folder. Its files are held against the digests that were recorded when it was fetched.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import structlog

from models_store.committed import COMMIT_MARKER, FILES_FOLDER, digest_of, write_committed
from models_store.digests import DigestCache
from models_store.errors import ModelRejected, StoreError, StoreUnavailable, translated
from models_store.files import MiB
from models_store.references import Reference, parse_reference
from models_store.sources.mlflow_registry import MlflowRegistry, RegisteredVersion
from models_store.verification.strict_json import read_object
from models_store.verification.verify import verify_checkpoint
from storage.folders import ArtifactFolder

log = structlog.get_logger(__name__)

_ORIGIN: Final = "origin.json"


class FetchedVersions:
    """The versions of one registry that are on this machine, or can be.

    Args:
        root: on the same disk as the store.
        registry: where versions come from; None if none is set up.
    """

    def __init__(self, root: Path, registry: MlflowRegistry | None) -> None:
        self._folders = ArtifactFolder(root)
        self._registry = registry

    def locate(self, reference: Reference, *, offline: bool) -> tuple[Path, Path]:
        """Files and root of a version; fetched when it is not there and that is allowed.

        Where the server does not answer, the copy that is there serves: a version does not change.

        Raises:
            ModelRejected: no registry is set up, the model is not allowed, or it is offline and not there.
            ModelNotFound: the registry has no such version.
            StoreUnavailable: the server did not answer, and the version was never fetched.
        """
        registry = self._registry
        if registry is None:
            raise ModelRejected(
                f"{reference}: this service knows no MLflow server",
                hint="ask the operator to set BACKDOOR_AUDIT_MLFLOW_TRACKING_URI, or use another reference",
            )
        registry.require_allowed(reference)
        if offline:
            place = self._newest(registry, reference)
            if place is None:
                raise ModelRejected(
                    f"{reference}: was not fetched before, and nothing is downloaded now",
                    hint="let the service go online (BACKDOOR_AUDIT_OFFLINE=false); audits fetch it then",
                )
            return place / FILES_FOLDER, place
        try:
            version = registry.version(reference)
        except StoreUnavailable as error:
            place = self._newest(registry, reference)
            if place is None:
                raise
            log.warning("registry away, fetched copy used", reference=str(reference), reason=error.message)
        else:
            place = self._folders.find(_name(registry, version)) or self._fetch(registry, version)
        return place / FILES_FOLDER, place

    def digest_of(self, version: RegisteredVersion) -> str | None:
        """The content digest of a version that was fetched, as it is registered now; None if it was not."""
        if self._registry is None or (place := self._folders.find(_name(self._registry, version))) is None:
            return None
        return digest_of(place)

    def listed(self) -> Iterator[tuple[str, Path, Path]]:
        """Reference, files and root of every version that is here and allowed; of several with one name the newest."""
        if self._registry is None:
            return
        found = {}
        for name in self._folders.names():
            place = self._folders.root / name
            try:
                reference = parse_reference(str(_origin(place).get("reference")))
            except StoreError:
                continue
            if self._registry.allows(reference.name):
                found[str(reference)] = self._newest(self._registry, reference)
        for text, newest in found.items():
            if newest is not None:
                yield text, newest / FILES_FOLDER, newest

    def _fetch(self, registry: MlflowRegistry, version: RegisteredVersion) -> Path:
        name = _name(registry, version)
        with translated("keeping a registered model"), self._folders.create(name) as place:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                registry.fetch(version, Path(folder))
                verified = verify_checkpoint(Path(folder))
                cache = DigestCache(None)
                digest = write_committed(verified, place, {file.name: cache.digest(file) for file in verified.files})
            origin = {
                "reference": str(version.reference),
                "server": registry.tracking_uri,
                "source": version.source,
                "created_ms": version.created_ms,
                "digest": digest,
            }
            (place / _ORIGIN).write_text(json.dumps(origin, indent=1), encoding="utf-8")
        return self._folders.root / name

    def _newest(self, registry: MlflowRegistry, reference: Reference) -> Path | None:
        """The copy of the version that was registered last."""
        begin = f"{_short(registry.tracking_uri, str(reference))}-"
        places = [self._folders.root / name for name in self._folders.names() if name.startswith(begin)]
        places = [place for place in places if (place / COMMIT_MARKER).is_file()]
        return max(places, key=lambda place: int(_origin(place).get("created_ms", 0)), default=None)


def _origin(place: Path) -> dict[str, Any]:
    return read_object(place / _ORIGIN, _ORIGIN, limit=1 * MiB)


def _name(registry: MlflowRegistry, version: RegisteredVersion) -> str:
    where = _short(registry.tracking_uri, str(version.reference))
    return f"{where}-{_short(version.source, str(version.created_ms))}"


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
