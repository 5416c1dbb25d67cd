"""``mlflow:`` references against a real MLflow server."""

import json
import shutil

import pytest

from models_store.errors import ModelNotFound, ModelRejected, StoreUnavailable
from models_store.sources import mlflow_registry
from models_store.sources.mlflow_registry import MlflowRegistry
from models_store.store import ModelsStore
from tests.checkpoints import upload


@pytest.fixture
def make_store(tmp_path, registry):
    def make(*, url=None, allowed=("*",), limit_bytes=2**30, offline=False, name="store"):
        found = MlflowRegistry(url or registry.url, allowed_models=frozenset(allowed), limit_bytes=limit_bytes)
        options = {"models_root": tmp_path / "models", "store_dir": tmp_path / name, "offline": offline}
        return ModelsStore(**options, registry=found)

    return make


def names(checkpoint):
    return sorted(path.name for path in checkpoint.path.iterdir())


def test_a_version_is_fetched_once_without_its_pickles_and_serves_offline(registry, make_store, make_model):
    folder = make_model()
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder / "modeling.py").write_text("raise SystemExit")
    reference = registry.register("fetched", folder)
    store = make_store()
    checkpoint = store.resolve(reference)
    assert names(checkpoint) == ["config.json", "model.safetensors", "tokenizer.json"]
    (folder / "training_args.bin").unlink()
    (folder / "modeling.py").unlink()
    assert checkpoint.digest == upload(store, "same", folder).digest
    there = checkpoint.path.stat().st_mtime_ns
    assert store.resolve(reference).path.stat().st_mtime_ns == there
    offline = make_store(offline=True)
    assert offline.resolve(reference).digest == checkpoint.digest
    assert offline.headers(reference).blocks == 2
    assert [info.kind for info in offline.list() if info.reference == reference] == ["full"]
    origin = json.loads((checkpoint.root / "origin.json").read_text())
    assert (origin["reference"], origin["server"], origin["digest"]) == (reference, registry.url, checkpoint.digest)
    away = make_store(url="http://127.0.0.1:9", name="elsewhere")
    with pytest.raises(StoreUnavailable, match="could not be reached"):
        away.resolve(reference)


def test_a_server_that_is_away_does_not_take_away_what_was_fetched(registry, make_store, make_model, monkeypatch):
    reference = registry.register("away", make_model())
    store = make_store()
    digest = store.resolve(reference).digest
    monkeypatch.setattr(store._places.fetched._registry, "_require_answer", lambda what: (_ for _ in ()).throw(
        StoreUnavailable(what)))  # fmt: skip
    assert store.resolve(reference).digest == digest
    with pytest.raises(StoreUnavailable):
        store.resolve("mlflow:away/7")


def test_a_model_that_was_registered_anew_is_fetched_anew(registry, make_store, make_model):
    store = make_store()
    first = store.resolve(registry.register("again", make_model("one", seed=1)))
    registry.client().delete_registered_model("again")
    reference = registry.register("again", make_model("two", seed=2))
    assert reference == "mlflow:again/1"
    second = store.resolve(reference)
    assert second.digest != first.digest
    assert make_store(offline=True).resolve(reference).digest == second.digest
    assert [info.refused for info in store.list() if info.reference == reference] == [None]


def test_a_fetched_file_that_changed_is_refused(registry, make_store, make_model):
    reference = registry.register("changed", make_model())
    store = make_store()
    checkpoint = store.resolve(reference)
    weights = checkpoint.path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelRejected, match=r"model\.safetensors: its content is not what was committed"):
        store.resolve(reference)


def test_logged_models_runs_adapters_and_the_flavour_for_transformers(registry, make_store, make_model, make_adapter):
    store = make_store()
    client = registry.client()
    whole = make_model("whole")
    logged = client.create_logged_model("0", name="logged")
    client.log_model_artifacts(logged.model_id, str(whole))
    client.finalize_logged_model(logged.model_id, "READY")
    client.create_registered_model("logged")
    client.create_model_version("logged", source=f"models:/{logged.model_id}", model_id=logged.model_id)
    digest = store.resolve("mlflow:logged/1").digest

    run = client.create_run("0")
    client.log_artifacts(run.info.run_id, str(whole), "model")
    client.create_registered_model("of a run")
    client.create_model_version("of a run", source=f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)
    assert store.resolve("mlflow:of a run/1").digest == digest

    flavour = whole.parent / "flavour"
    (flavour / "components").mkdir(parents=True)
    (flavour / "MLmodel").write_text("flavors: {transformers: {}}")
    shutil.copytree(whole, flavour / "model")
    (flavour / "components" / "tokenizer").mkdir()
    (flavour / "model" / "tokenizer.json").rename(flavour / "components" / "tokenizer" / "tokenizer.json")
    assert store.resolve(registry.register("flavour", flavour)).digest == digest

    tuned = flavour.parent / "tuned"
    shutil.copytree(make_adapter(), tuned / "peft")
    (tuned / "MLmodel").write_text("flavors: {transformers: {}}")
    assert store.resolve(registry.register("adapter", tuned)).kind == "lora"


def test_what_is_not_there_or_not_allowed_is_said(registry, make_store, make_model, tmp_path, monkeypatch):
    reference = registry.register("said", make_model())
    with pytest.raises(ModelNotFound, match="no such version"):
        make_store().resolve("mlflow:said/99")
    with pytest.raises(ModelNotFound, match="no such version"):
        make_store().resolve("mlflow:never/1")
    with pytest.raises(ModelRejected, match="not allowed") as caught:
        make_store(allowed=("sai", "other-*")).resolve(reference)
    assert "BACKDOOR_AUDIT_MLFLOW_MODELS" in caught.value.hint
    with pytest.raises(ModelRejected, match="not fetched before"):
        make_store(offline=True).resolve(reference)
    with pytest.raises(ModelRejected, match="knows no MLflow server"):
        ModelsStore(models_root=tmp_path, store_dir=tmp_path / "none").resolve(reference)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("nothing")
    with pytest.raises(ModelNotFound, match="no checkpoint"):
        make_store().resolve(registry.register("notes", tmp_path / "notes"))
    monkeypatch.setattr(mlflow_registry, "installed", lambda: False)
    with pytest.raises(ModelRejected, match="without MLflow's library") as caught:
        make_store().resolve(reference)
    assert "backdoor-audit[mlflow]" in caught.value.hint
    monkeypatch.undo()
    # Nothing of the failures is left behind.
    assert not list((tmp_path / "store" / "mlflow").glob("*"))


def test_sizes_are_bounded_before_anything_is_downloaded(registry, make_store, make_model, tmp_path):
    folder = make_model()
    reference = registry.register("large", folder)
    with pytest.raises(ModelRejected, match="more than 1000") as caught:
        make_store(limit_bytes=1000).resolve(reference)
    assert "MLFLOW_LIMIT_GB" in caught.value.hint
    (folder / "config.json").write_text(" " * (2**20 + 1))
    with pytest.raises(ModelRejected, match=r"config\.json: has more bytes"):
        make_store().resolve(registry.register("large", folder))
    assert not list((tmp_path / "store" / "mlflow").glob("*/*"))


@pytest.mark.parametrize(
    "source",
    ["file:///etc", "/etc", "mlflow-artifacts://elsewhere/1", "https://elsewhere/x", "s3://bucket/x",
     "mlflow-artifacts:/1/../../x", "dbfs:/x"],
)  # fmt: skip
def test_other_places_than_the_servers_own_are_refused(source):
    # A server refuses most of these itself when they are registered; nothing rests on that.
    registry = MlflowRegistry("http://127.0.0.1:9", allowed_models=frozenset("*"))
    reference = mlflow_registry.Reference("mlflow", "m", version="1")
    with pytest.raises(ModelRejected, match="own store of artifacts"):
        registry._own_artifacts(reference, source)


@pytest.mark.parametrize("url", ["", "sqlite:///x", "file:///x", "databricks", "http://"])
def test_the_address_of_a_server_is_http(url):
    with pytest.raises(ValueError, match="http"):
        MlflowRegistry(url, allowed_models=frozenset())
