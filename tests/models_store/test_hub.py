import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from models_store.errors import ModelNotFound, ModelRejected, StoreUnavailable
from models_store.store import ModelsStore

COMMIT = "0123456789abcdef0123456789abcdef01234567"
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


class Hub(ThreadingHTTPServer):
    """The two calls of a hub that a download at a full commit makes."""

    def __init__(self, files):
        self.files = files
        self.asked = []
        super().__init__(("127.0.0.1", 0), HubHandler)


class HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        headers = {}
        name = self.path.rpartition(f"{COMMIT}/")[2]
        if self.path.startswith(f"/api/models/org/repo/revision/{COMMIT}"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.server.files.items()]
            data = json.dumps({"id": "org/repo", "modelId": "org/repo", "sha": COMMIT, "siblings": siblings}).encode()
        elif self.path.startswith(f"/api/models/org/repo/tree/{COMMIT}"):
            tree = [
                {"type": "file", "path": name, "oid": "0" * 40, "size": len(data)}
                for name, data in self.server.files.items()
            ]
            data = json.dumps(tree).encode()
        elif self.path.startswith(f"/org/repo/resolve/{COMMIT}/") and name in self.server.files:
            data = self.server.files[name]
            headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def _online(monkeypatch):
    """Whatever the environment of the tests says, the library may talk to this machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def hub(make_model):
    folder = make_model("remote")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    server = Hub(files | {"pytorch_model.bin": b"pickle", "modeling_evil.py": b"code", "README.md": b"about"})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_online_only_what_is_allowed_is_downloaded_at_that_commit(tmp_path, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    endpoint = f"http://127.0.0.1:{hub.server_address[1]}"
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


def test_a_download_that_was_cut_short_is_finished(tmp_path, hub):
    partial = tmp_path / "hub" / "models--org--repo" / "snapshots" / COMMIT
    partial.mkdir(parents=True)
    (partial / "config.json").write_bytes(hub.files["config.json"])
    with pytest.raises(ModelRejected, match=r"model\.safetensors: is not there"):
        make_store(tmp_path).resolve(REFERENCE)
    store = make_store(tmp_path, offline=False, hub_endpoint=f"http://127.0.0.1:{hub.server_address[1]}")
    assert store.resolve(REFERENCE).kind == "full"


def test_a_repository_that_the_hub_does_not_have_is_not_found(tmp_path, hub):
    store = make_store(tmp_path, offline=False, hub_endpoint=f"http://127.0.0.1:{hub.server_address[1]}")
    with pytest.raises(ModelNotFound):
        store.resolve(f"hf:org/nothing@{COMMIT}")


def test_a_hub_that_does_not_answer_is_unavailable(tmp_path):
    store = make_store(tmp_path, offline=False, hub_endpoint="http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable):
        store.resolve(REFERENCE)
