"""The same folders over real HTTP: downloaded from a hub, and registered with an MLflow server."""

from pathlib import Path

import pytest

from models_store.errors import StoreError
from models_store.sources.mlflow_registry import MlflowRegistry
from models_store.store import ModelsStore
from tests.hub import COMMIT, serving
from tests.models_store.wild.cases import REFUSED, TAKEN, Case

# A folder of links or FIFOs cannot be uploaded, and so not be downloaded.
REACHABLE = [case for case in REFUSED if case.way == "alone"]
FETCHED = [case for case in TAKEN if case.way != "local"]


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def store_of(tmp_path: Path, **options: object) -> ModelsStore:
    (tmp_path / "models").mkdir(exist_ok=True)
    return ModelsStore(models_root=tmp_path / "models", store_dir=tmp_path / "store", **options)  # type: ignore[arg-type]


def from_hub(tmp_path: Path, folder: Path) -> ModelsStore:
    with serving(files_of(folder)) as hub:
        store = store_of(
            tmp_path,
            hub_dir=tmp_path / "hub",
            allowed_organisations=frozenset({"org"}),
            hub_endpoint=hub.url,
            offline=False,
        )
        store.resolve(f"hf:org/repo@{COMMIT}")
    return store


@pytest.mark.parametrize("case", FETCHED, ids=lambda case: case.name)
def test_a_download_from_a_hub_is_the_folder(tmp_path: Path, case: Case) -> None:
    folder = case.folder.write(tmp_path / "models" / "tuned")
    store = from_hub(tmp_path, folder)
    local, fetched = store.resolve("local:tuned"), store.resolve(f"hf:org/repo@{COMMIT}")
    assert (fetched.digest, fetched.kind) == (local.digest, local.kind)


@pytest.mark.parametrize("case", REACHABLE, ids=lambda case: case.name)
def test_a_download_from_a_hub_is_refused_as_the_folder_is(tmp_path: Path, case: Case) -> None:
    folder = case.folder.write(tmp_path / "models" / "tuned")
    case.base.write(tmp_path / "models" / "base")

    def ask() -> None:
        store = from_hub(tmp_path, folder)
        store.check_pair(store.resolve("local:base"), store.resolve(f"hf:org/repo@{COMMIT}"))

    with pytest.raises(StoreError):
        ask()


@pytest.mark.parametrize("case", FETCHED, ids=lambda case: case.name)
def test_a_registered_version_is_the_folder(tmp_path: Path, registry: object, case: Case) -> None:
    folder = case.folder.write(tmp_path / "models" / "tuned")
    store = store_of(tmp_path, registry=MlflowRegistry(registry.url, allowed_models=frozenset("*")), offline=False)  # type: ignore[attr-defined]
    reference = registry.register(f"taken-{TAKEN.index(case)}", folder)  # type: ignore[attr-defined]
    local, fetched = store.resolve("local:tuned"), store.resolve(reference)
    assert (fetched.digest, fetched.kind) == (local.digest, local.kind)


@pytest.mark.parametrize("case", REACHABLE, ids=lambda case: case.name)
def test_a_registered_version_is_refused_as_the_folder_is(tmp_path: Path, registry: object, case: Case) -> None:
    folder = case.folder.write(tmp_path / "models" / "tuned")
    case.base.write(tmp_path / "models" / "base")
    store = store_of(tmp_path, registry=MlflowRegistry(registry.url, allowed_models=frozenset("*")), offline=False)  # type: ignore[attr-defined]
    reference = registry.register(f"refused-{REACHABLE.index(case)}", folder)  # type: ignore[attr-defined]
    with pytest.raises(StoreError):
        store.check_pair(store.resolve("local:base"), store.resolve(reference))
