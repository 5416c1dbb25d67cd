"""Versions of models that are registered with MLflow: looked up, fetched file by file, and tagged.

The one module that uses MLflow's own library, which comes with the extra ``mlflow`` and is imported when it is first
needed. Credentials are MLflow's own affair: its library reads ``MLFLOW_TRACKING_USERNAME``, ``MLFLOW_TRACKING_TOKEN``
and their kin.
"""

import fnmatch
import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Self
from urllib.parse import urlsplit

import structlog

from backdoor_audit.contract.checkpoint_files import fetched, gguf_files
from common.settings import CommonSettings
from models_store.errors import ModelNotFound, ModelRejected, NoSpace, StoreUnavailable, translated
from models_store.files import GiB, shown, takes, upload_limit
from models_store.references import Reference
from models_store.verification.gguf import require_one_model

log = structlog.get_logger(__name__)

DEFAULT_LIMIT_BYTES: Final = 200 * GiB
MIN_FREE_BYTES: Final = 2 * GiB
"""What a download leaves free on the disk."""
EXTRA: Final = "mlflow"

_CONNECT_TIMEOUT_S: Final = 10.0
_SCHEME: Final = "mlflow-artifacts"
_MARKS: Final = ("adapter_config.json", "config.json")
"""A folder with one of these is a checkpoint."""
_TOKENIZER_FOLDER: Final = "components/tokenizer"
"""Where MLflow's flavour for transformers keeps what a tokenizer needs."""
_PLACES: Final = ("", "peft", "model")
"""Where a version's checkpoint can be: the version's own folder, or where that flavour puts adapters and models."""
# The library asks eight times, for minutes, before it gives up; an operator's own numbers go before these.
_DEFAULTS: Final = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
# Nothing is told to anybody else, nothing is drawn, and the log keeps its form.
_IMPOSED: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",
}


@dataclass(frozen=True)
class RegisteredVersion:
    """A version as the registry knows it.

    Attributes:
        reference: what it was asked for by.
        source: address of its folder of artifacts.
        created_ms: when it was registered. Numbers of versions begin again when a model is deleted and made again.
    """

    reference: Reference
    source: str
    created_ms: int


class MlflowRegistry:
    """The model registry of one MLflow server.

    Args:
        tracking_uri: ``http://…`` or ``https://…``, the server's address.
        allowed_models: names of registered models that may be used; ``*`` stands for any characters.
        limit_bytes: the most bytes that are fetched of one version.

    Raises:
        ValueError: the address is of another kind.
    """

    def __init__(
        self, tracking_uri: str, *, allowed_models: frozenset[str], limit_bytes: int = DEFAULT_LIMIT_BYTES
    ) -> None:
        if urlsplit(tracking_uri).scheme not in ("http", "https") or not urlsplit(tracking_uri).hostname:
            raise ValueError("the address of the MLflow server must be http:// or https://")
        self.tracking_uri = tracking_uri.rstrip("/")
        self._allowed_models = allowed_models
        self._limit_bytes = limit_bytes

    @classmethod
    def from_settings(cls, settings: CommonSettings) -> Self | None:
        """The registry of ``mlflow_tracking_uri``; None if none is set."""
        if settings.mlflow_tracking_uri is None:
            return None
        return cls(
            settings.mlflow_tracking_uri,
            allowed_models=settings.mlflow_models,
            limit_bytes=settings.mlflow_limit_bytes,
        )

    def allows(self, name: str) -> bool:
        """Whether a registered model of this name may be used."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self._allowed_models)

    def require_allowed(self, reference: Reference) -> None:
        """Refuse a model that may not be used.

        Raises:
            ModelRejected: its name is not on the list.
        """
        if not self.allows(reference.name):
            raise ModelRejected(
                f"{reference}: the registered model is not allowed",
                hint="ask the operator to add its name to BACKDOOR_AUDIT_MLFLOW_MODELS",
            )

    def ping(self) -> None:
        """Check that the registry responds.

        Raises:
            ModelRejected: the extra is missing, or the server refuses us.
            StoreUnavailable: the server did not answer.
        """
        with self._asking("mlflow") as client:
            client.search_registered_models(max_results=1)

    def version(self, reference: Reference) -> RegisteredVersion:
        """Look a version up.

        Raises:
            ModelNotFound: the registry has no such model or version.
            ModelRejected: the extra is missing, the server refuses us, or the version's files are not in the server's
                own store of artifacts.
            StoreUnavailable: the server did not answer.
        """
        with self._asking(f"{reference}") as client:
            found = client.get_model_version(reference.name, str(reference.version))
            if found.status != "READY":
                raise ModelRejected(f"{reference}: is not ready in the registry", hint="register it again, or wait")
            uri = client.get_model_version_download_uri(reference.name, str(reference.version))
            source = self._own_artifacts(reference, _unwrapped(client, uri))
        return RegisteredVersion(reference, source, int(found.creation_timestamp))

    def fetch(self, version: RegisteredVersion, folder: Path) -> None:
        """Download what counts of a version into ``folder``, which is empty; its pickles and code are not asked for.

        Raises:
            ModelNotFound: there is no checkpoint in its artifacts.
            ModelRejected: it has more bytes than are fetched, or files that change under the download.
            NoSpace: the disk is too small.
            StoreUnavailable: the server did not answer.
        """
        with self._asking(f"{version.reference}"):
            import mlflow.artifacts

            wanted = self._wanted(version)
            total = sum(size for _, size in wanted.values())
            if total > self._limit_bytes:
                raise ModelRejected(
                    f"{version.reference}: has {total} bytes, more than {self._limit_bytes}",
                    hint="raise BACKDOOR_AUDIT_MLFLOW_LIMIT_GB, or register a smaller checkpoint",
                )
            if total + MIN_FREE_BYTES > shutil.disk_usage(folder).free:
                raise NoSpace("no space left for a registered model", hint="free space on the data folder's disk")
            for name, (uri, size) in wanted.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                mlflow.artifacts.download_artifacts(
                    artifact_uri=uri, dst_path=str(target.parent), tracking_uri=self.tracking_uri
                )
                if not target.is_file() or target.is_symlink() or target.stat().st_size != size:
                    raise ModelRejected(
                        f"{shown(name)}: did not arrive as the server lists it", hint="register the version again"
                    )
        log.info("model fetched", reference=str(version.reference), files=len(wanted), size_bytes=total)

    def tag(self, reference: Reference, tags: Mapping[str, str]) -> None:
        """Set tags of a version; those that it has besides stay.

        Raises:
            ModelNotFound: the registry has no such version (any more).
            ModelRejected: the extra is missing, or the server refuses us.
            StoreUnavailable: the server did not answer.
        """
        with self._asking(f"{reference}") as client:
            for key, value in tags.items():
                client.set_model_version_tag(reference.name, str(reference.version), key, value)

    def _own_artifacts(self, reference: Reference, uri: str) -> str:
        """The address, where it is of the server's own store of artifacts.

        Another host would be sent our credentials, and a file's path would be one of this machine.
        """
        parts = urlsplit(uri)
        here = parts.scheme == _SCHEME and parts.netloc in ("", urlsplit(self.tracking_uri).netloc)
        if here and ".." not in PurePosixPath(parts.path).parts and not parts.query and not parts.fragment:
            return f"{_SCHEME}:{parts.path.rstrip('/')}"
        raise ModelRejected(
            f"{reference}: its files are at a {shown(parts.scheme) or 'relative'} address, not in the MLflow server's "
            "own store of artifacts",
            hint="have the server serve artifacts (mlflow server does by default), and register the model again",
        )

    def _wanted(self, version: RegisteredVersion) -> dict[str, tuple[str, int]]:
        """Address and size of each file that makes up the checkpoint, by its name there."""
        for place in (*_PLACES, *self._folders(version.source, "artifacts")):
            found = self._files(version.source, place)
            if any(mark in found for mark in _MARKS) or gguf_files(found):
                break
        else:
            raise ModelNotFound(
                f"{version.reference}: there is no checkpoint in its artifacts",
                hint="register a folder with config.json or adapter_config.json, and safetensors",
            )
        if place and "tokenizer.json" not in found:
            found = self._files(version.source, _TOKENIZER_FOLDER) | found
        return found

    def _files(self, source: str, place: str) -> dict[str, tuple[str, int]]:
        """The files of a folder that a checkpoint may hold, with their sizes; empty if there is no such folder.

        Raises:
            ModelRejected: one of them is larger than its kind may be, or has no size.
        """
        entries = {PurePosixPath(entry.path).name: entry for entry in self._list(source, place) if not entry.is_dir}
        if packed := gguf_files(entries):
            require_one_model(packed)
        found = {}
        for name in sorted(fetched(entries)):
            entry = entries[name]
            takes(name)
            if entry.file_size is None or not 0 <= entry.file_size <= upload_limit(name):
                raise ModelRejected(f"{shown(name)}: has more bytes than it may have", hint="make it smaller")
            found[name] = (f"{_joined(source, place)}/{name}", int(entry.file_size))
        return found

    def _folders(self, source: str, place: str) -> Iterator[str]:
        """Folders right below one."""
        for entry in self._list(source, place):
            if entry.is_dir:
                yield f"{place}/{PurePosixPath(entry.path).name}"

    def _list(self, source: str, place: str) -> list[Any]:
        import mlflow.artifacts

        found: list[Any] = mlflow.artifacts.list_artifacts(
            artifact_uri=_joined(source, place), tracking_uri=self.tracking_uri
        )
        return found

    @contextmanager
    def _asking(self, what: str) -> Iterator[Any]:
        """Yield MLflow's client, and turn its errors into this room's."""
        _require_extra(what)
        self._require_answer(what)
        os.environ.update(_IMPOSED)
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        import requests
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        client = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
        with translated("fetching a registered model"):
            try:
                yield client
            except MlflowException as error:
                raise _translated(what, error) from error
            except requests.RequestException as error:
                raise _unreachable(what) from error

    def _require_answer(self, what: str) -> None:
        """One quick question first: the library tries for long before it gives up.

        Raises:
            StoreUnavailable: nobody answers.
        """
        import httpx

        try:
            # Whose certificate it is, the library checks, which may know of an authority of the operator's own.
            httpx.head(self.tracking_uri, timeout=_CONNECT_TIMEOUT_S, verify=False)
        except httpx.HTTPError as error:
            raise _unreachable(what) from error


def installed() -> bool:
    """Whether MLflow's library is there."""
    return importlib.util.find_spec("mlflow") is not None


def _require_extra(what: str) -> None:
    if not installed():
        raise ModelRejected(
            f"{what}: this service was installed without MLflow's library",
            hint=f"ask the operator to install the extra: pip install 'backdoor-audit[{EXTRA}]'",
        )


def _unwrapped(client: Any, uri: str) -> str:
    """The address of artifacts that a run's or a logged model's address stands for."""
    parts = urlsplit(uri)
    if parts.scheme == "runs" and not parts.netloc:
        run_id, _, path = parts.path.strip("/").partition("/")
        return f"{client.get_run(run_id).info.artifact_uri}/{path}"
    if parts.scheme == "models" and not parts.netloc:
        model_id = parts.path.strip("/")
        if model_id.startswith("m-") and "/" not in model_id:
            return str(client.get_logged_model(model_id).artifact_location)
    return uri


def _joined(source: str, place: str) -> str:
    return f"{source}/{place}" if place else source


def _unreachable(what: str) -> StoreUnavailable:
    return StoreUnavailable(f"{what}: the MLflow server could not be reached", hint="try again later")


def _translated(what: str, error: Any) -> ModelNotFound | ModelRejected | StoreUnavailable:
    code, status = error.error_code, error.get_http_status_code()
    if code == "RESOURCE_DOES_NOT_EXIST":
        return ModelNotFound(f"{what}: the MLflow server has no such version", hint="check the name and the version")
    if status in (401, 403):
        return ModelRejected(
            f"{what}: the MLflow server does not let this service in",
            hint="ask the operator for MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        )
    if code == "INVALID_PARAMETER_VALUE":
        return ModelRejected(f"{what}: the MLflow server refuses this name or version", hint="check both")
    return StoreUnavailable(
        f"{what}: the MLflow server did not answer as it should", hint="see its log; try again later"
    )
