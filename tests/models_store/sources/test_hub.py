import hashlib

import pytest
from huggingface_hub import snapshot_download

from models_store.errors import ModelNotFound, ModelRejected, StoreUnavailable
from models_store.store import ModelsStore
from tests.hub import COMMIT, git_digest, serving

REFERENCE = f"hf:org/repo@{COMMIT}"


def make_store(tmp_path, **options):
    options = {"allowed_organisations": frozenset({"org"}), "hub_dir": tmp_path / "hub", **options}
    return ModelsStore(models_root=tmp_path / "models", store_dir=tmp_path / "store", **options)


@pytest.mark.parametrize("hub_dir", [None, "hub"])
def test_offline_an_absent_snapshot_is_rejected_with_a_hint(tmp_path, hub_dir):
    store = make_store(tmp_path, hub_dir=None if hub_dir is None else tmp_path / hub_dir)
    with pytest.raises(ModelRejected, match="offline") as caught:
        store.resolve(REFERENCE)
    assert "local:" in caught.value.hint


def test_an_organisation_that_is_not_allowed_is_rejected_even_when_the_snapshot_is_there(tmp_path, make_model):
    make_model(f"hub/models--other--repo/snapshots/{COMMIT}")
    with pytest.raises(ModelRejected, match="'other' is not allowed"):
        make_store(tmp_path).resolve(f"hf:other/repo@{COMMIT}")
    assert make_store(tmp_path).list() == []


def test_a_snapshot_of_the_hubs_cache_is_used_with_its_links(tmp_path, make_model):
    folder = make_model(f"hub/models--org--repo/snapshots/{COMMIT}")
    blobs = tmp_path / "hub" / "models--org--repo" / "blobs"
    blobs.mkdir()
    (folder / "model.safetensors").rename(blobs / "abc")
    (folder / "model.safetensors").symlink_to("../../blobs/abc")
    store = make_store(tmp_path)
    assert store.resolve(REFERENCE).path == folder.resolve()
    assert [info.reference for info in store.list()] == [REFERENCE]
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(tmp_path / "elsewhere.json")
    (tmp_path / "elsewhere.json").write_text("{}")
    with pytest.raises(ModelRejected, match="link out"):
        store.resolve(REFERENCE)


@pytest.fixture(autouse=True)
def _online(monkeypatch):
    """Whatever the environment of the tests says, the library may talk to this machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def hub(make_model):
    folder = make_model("remote")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with serving(
        files | {"pytorch_model.bin": b"pickle", "modeling_evil.py": b"code", "README.md": b"about"}
    ) as server:
        yield server


def test_online_only_what_is_allowed_is_downloaded_at_that_commit(tmp_path, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    endpoint = hub.url
    store = make_store(tmp_path, offline=False, hub_endpoint=endpoint)
    checkpoint = store.resolve(REFERENCE)
    assert checkpoint.path.name == COMMIT
    assert sorted(path.name for path in checkpoint.path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert not [path for path, _ in hub.asked if "pytorch_model" in path or "evil" in path]
    assert {key for _, key in hub.asked} == {None}
    asked = len(hub.asked)
    assert make_store(tmp_path).resolve(REFERENCE).digest == checkpoint.digest
    assert store.resolve(REFERENCE).digest == checkpoint.digest
    assert len(hub.asked) == asked


@pytest.fixture
def cache(tmp_path, hub):
    """The cache of another tool: the library's own download of a branch."""
    hub_dir = tmp_path / "hub"
    wanted = ["*.json", "*.safetensors", "README.md"]
    folder = snapshot_download("org/repo", cache_dir=hub_dir, allow_patterns=wanted, endpoint=hub.url, token=False)
    assert folder.endswith(f"models--org--repo/snapshots/{COMMIT}")
    return hub_dir / "models--org--repo"


def test_a_cache_that_another_tool_filled_is_read_offline_and_by_its_commit_alone(tmp_path, cache):
    weights = cache / "snapshots" / COMMIT / "model.safetensors"
    assert weights.is_symlink()
    assert weights.resolve().parent == cache / "blobs"
    assert (cache / "refs" / "main").read_text() == COMMIT
    store = make_store(tmp_path)
    checkpoint = store.resolve(REFERENCE)
    assert (checkpoint.path, checkpoint.root) == (cache / "snapshots" / COMMIT, cache)
    assert [info.reference for info in store.list()] == [REFERENCE]
    for moving in ("hf:org/repo@main", "hf:org/repo", f"hf:org/repo@{COMMIT[:7]}"):
        with pytest.raises(ModelRejected, match="names no full commit") as caught:
            store.resolve(moving)
        assert "branches and tags can change" in caught.value.hint
    with pytest.raises(ModelRejected, match="offline"):
        store.resolve(f"hf:org/repo@{'f' * 40}")


@pytest.mark.parametrize("place", ["../../../../secret", "../../models--org--other/blobs/weights"])
def test_a_blob_that_leads_out_of_its_repository_is_refused(tmp_path, cache, place):
    blob = (cache / "snapshots" / COMMIT / "model.safetensors").resolve()
    target = blob.parent / place
    target.parent.mkdir(parents=True, exist_ok=True)
    blob.rename(target)
    blob.symlink_to(place)
    with pytest.raises(ModelRejected, match=r"model\.safetensors: is a link out"):
        make_store(tmp_path).resolve(REFERENCE)


def test_a_download_that_was_cut_short_is_finished(tmp_path, hub):
    partial = tmp_path / "hub" / "models--org--repo" / "snapshots" / COMMIT
    partial.mkdir(parents=True)
    (partial / "config.json").write_bytes(hub.files["config.json"])
    with pytest.raises(ModelRejected, match=r"model\.safetensors: is not there"):
        make_store(tmp_path).resolve(REFERENCE)
    store = make_store(tmp_path, offline=False, hub_endpoint=hub.url)
    assert store.resolve(REFERENCE).kind == "full"


def test_a_repository_that_the_hub_does_not_have_is_not_found(tmp_path, hub):
    store = make_store(tmp_path, offline=False, hub_endpoint=hub.url)
    with pytest.raises(ModelNotFound):
        store.resolve(f"hf:org/nothing@{COMMIT}")


def test_a_hub_that_does_not_answer_is_unavailable(tmp_path):
    store = make_store(tmp_path, offline=False, hub_endpoint="http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable):
        store.resolve(REFERENCE)


@pytest.mark.parametrize("large", [True, False])
def test_a_blob_is_the_file_that_its_name_is_the_digest_of(tmp_path, make_model, large):
    folder = make_model(f"hub/models--org--repo/snapshots/{COMMIT}")
    blobs = tmp_path / "hub" / "models--org--repo" / "blobs"
    blobs.mkdir()
    content = (folder / "model.safetensors").read_bytes()
    name = hashlib.sha256(content).hexdigest() if large else git_digest(content)
    (folder / "model.safetensors").rename(blobs / name)
    (folder / "model.safetensors").symlink_to(f"../../blobs/{name}")
    assert make_store(tmp_path).resolve(REFERENCE).path == folder.resolve()
    (blobs / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelRejected, match=r"model\.safetensors: .* \(digest mismatch\)"):
        make_store(tmp_path).resolve(REFERENCE)
