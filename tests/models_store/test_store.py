import json
import os
import subprocess

import pytest

from common.settings import CommonSettings
from models_store import uploads as uploads_module
from models_store.errors import (
    InvalidReference,
    ModelNotFound,
    ModelRejected,
    ModelsIncompatible,
    NameTaken,
    NoSpace,
)
from models_store.store import ModelsStore
from models_store.uploads import Uploads
from models_store.verification.verify import verify_checkpoint
from tests.checkpoints import upload


@pytest.fixture
def store(tmp_path):
    (tmp_path / "models").mkdir()
    return ModelsStore(models_root=tmp_path / "models", store_dir=tmp_path / "store")


def test_a_local_reference_becomes_a_verified_folder(store, make_model, tmp_path):
    folder = make_model("models/tiny")
    checkpoint = store.resolve("local:tiny")
    assert (checkpoint.path, checkpoint.kind, checkpoint.architecture) == (folder.resolve(), "full", "llama")
    assert checkpoint.root == (tmp_path / "models").resolve()
    assert checkpoint.digest.startswith("sha256:")
    assert checkpoint.size_bytes > 0
    assert verify_checkpoint(checkpoint.path, checkpoint.root)


def test_an_adapter_tells_of_its_base(store, make_adapter):
    make_adapter("models/organisms/one", metadata={"base_digest": f"sha256:{'a' * 64}"})
    checkpoint = store.resolve("local:organisms/one")
    assert (checkpoint.kind, checkpoint.architecture) == ("lora", None)
    assert checkpoint.base_model_name == "somebody/tiny"
    assert checkpoint.base_digest == f"sha256:{'a' * 64}"


def test_the_digest_follows_the_files_that_count_and_nothing_else(store, make_model):
    one, _, other = make_model("models/one"), make_model("models/two"), make_model("models/other", seed=1)
    digest = store.resolve("local:one").digest
    assert store.resolve("local:two").digest == digest
    assert store.resolve("local:other").digest != digest
    (one / "README.md").write_text("about")
    assert store.resolve("local:one").digest == digest
    (one / "generation_config.json").write_text("{}")
    assert store.resolve("local:one").digest != digest
    assert other.is_dir()


@pytest.mark.parametrize("reference", ["local:missing", "local:a/b/c", "store:missing"])
def test_what_is_not_there_is_not_found(store, reference):
    with pytest.raises(ModelNotFound) as caught:
        store.resolve(reference)
    assert caught.value.hint


def test_what_is_no_reference_is_refused(store):
    with pytest.raises(InvalidReference):
        store.resolve("/etc")


def test_a_link_out_of_the_models_root_is_refused(store, make_model, tmp_path):
    make_model("outside")
    (tmp_path / "models" / "inside").symlink_to(tmp_path / "outside")
    with pytest.raises(ModelRejected, match="link out of the models' folder"):
        store.resolve("local:inside")


def test_a_link_within_the_models_root_is_fine(store, make_model, tmp_path):
    folder = make_model("models/real")
    (tmp_path / "models" / "alias").symlink_to("real")
    assert store.resolve("local:alias").path == folder.resolve()


def test_the_list_names_models_with_their_digest_once_it_is_known(store, make_model, make_adapter, monkeypatch):
    monkeypatch.setattr(store._digests, "_settle_s", 0)
    model = make_model("models/base/tiny")
    make_adapter("models/organisms/one")
    broken = make_model("models/broken", model_type="evil")
    (broken.parent / "not-a-model").mkdir()
    listed = {info.reference: info for info in store.list()}
    assert listed.keys() == {"local:base/tiny", "local:organisms/one", "local:broken"}
    assert listed["local:base/tiny"].digest is None
    assert (listed["local:organisms/one"].kind, listed["local:organisms/one"].name) == ("lora", "organisms/one")
    assert "model_type" in listed["local:broken"].refused
    checkpoint = store.resolve("local:base/tiny")
    again = {info.reference: info for info in store.list()}["local:base/tiny"]
    assert (again.digest, again.size_bytes) == (checkpoint.digest, checkpoint.size_bytes)
    (model / "evil").symlink_to("/etc")
    assert "is a link out" in {info.reference: info for info in store.list()}["local:base/tiny"].refused


def test_a_list_does_not_verify_again_what_did_not_change(store, make_model, monkeypatch):
    model = make_model("models/tiny")
    assert store.list()[0].refused is None
    with monkeypatch.context() as patch:
        patch.setattr("models_store.store.verify_checkpoint", lambda *_: pytest.fail("verified again"))
        assert store.list()[0].refused is None
    (model / "config.json").write_text("{}")
    assert "model_type" in store.list()[0].refused


def test_a_models_root_that_is_not_there_is_an_empty_one(tmp_path):
    assert ModelsStore(models_root=tmp_path / "none", store_dir=tmp_path / "store").list() == []


def test_an_uploaded_model_is_checked_kept_and_found(store, make_model):
    folder = make_model("elsewhere/tiny")
    (folder / "README.md").write_text("not copied")
    uploaded = upload(store, "my-model", folder)
    assert uploaded == store.resolve("store:my-model")
    assert uploaded.path.name == "files"
    assert not (uploaded.path / "README.md").exists()
    assert [info.reference for info in store.list()] == ["store:my-model"]
    assert upload(store, "my-model", folder) == uploaded


def test_an_uploaded_adapter_keeps_the_digest_of_its_base(store, make_adapter):
    folder = make_adapter("elsewhere/adapter")
    digest = f"sha256:{'c' * 64}"
    (folder / "card.json").write_text(json.dumps({"base_digest": digest, "rate": 1.0}))
    assert upload(store, "mine", folder).base_digest == digest


def test_a_name_keeps_its_model(store, make_model):
    first = upload(store, "mine", make_model("elsewhere/one"))
    with pytest.raises(NameTaken):
        upload(store, "mine", make_model("elsewhere/two", seed=1))
    assert store.resolve("store:mine") == first


def test_a_bad_upload_or_name_is_not_committed(store, make_model):
    upload(store, "good", make_model("elsewhere/good"))
    with store.uploads.receiving("bad", "config.json", offset=0, total=None) as receiving:
        receiving.write(b"{}")
        receiving.finish()
    with pytest.raises(ModelRejected, match="model_type"):
        store.commit("bad")
    with pytest.raises(InvalidReference):
        upload(store, "../up", make_model("elsewhere/other"))
    assert [info.reference for info in store.list()] == ["store:good"]


def test_what_was_not_committed_does_not_exist(store, make_model, tmp_path):
    make_model("store/models/half/files")
    with pytest.raises(ModelNotFound):
        store.resolve("store:half")
    assert store.list() == []


def test_a_digest_mismatch_in_the_store_is_refused_and_the_file_named(store, make_model):
    uploaded = upload(store, "mine", make_model("elsewhere/one"))
    tokenizer = uploaded.path / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"a": 1', '"b": 1'))
    with pytest.raises(ModelRejected, match=r"tokenizer\.json: its content is not what was committed"):
        store.resolve("store:mine")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_an_upload_onto_a_full_disk_leaves_no_model(make_model, tmp_path):
    small = tmp_path / "store"
    small.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mount.stderr.decode().strip()}")
    try:
        store = ModelsStore(models_root=tmp_path / "models", store_dir=small)
        with pytest.raises(NoSpace) as caught:
            upload(store, "mine", make_model("elsewhere/one"))
        assert (caught.value.code, isinstance(caught.value.__cause__, OSError)) == ("no_space", True)
        assert store.list() == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_pair_must_belong_together(store, make_model, make_adapter):
    make_model("models/base")
    make_model("models/tuned", seed=1)
    base = store.resolve("local:base")
    store.check_pair(base, store.resolve("local:tuned"))
    make_adapter("models/right", metadata={"base_digest": base.digest})
    store.check_pair(base, store.resolve("local:right"))
    make_adapter("models/unsaid")
    store.check_pair(base, store.resolve("local:unsaid"))
    make_adapter("models/wrong", metadata={"base_digest": f"sha256:{'0' * 64}"})
    with pytest.raises(ModelsIncompatible, match="digest of another base"):
        store.check_pair(base, store.resolve("local:wrong"))


def test_a_store_of_the_settings_finds_what_one_of_its_own_folders_finds(make_model, tmp_path):
    (tmp_path / "models").mkdir()
    make_model("models/tiny")
    settings = CommonSettings.load(data_dir=tmp_path / "data", models_root=tmp_path / "models")
    store = ModelsStore.from_settings(settings, upload_limit_bytes=7)
    assert store.resolve("local:tiny").path == (tmp_path / "models" / "tiny").resolve()
    assert store.uploads.limit_bytes == 7
    assert store.uploads.root == (settings.store_dir / "uploads").resolve()


def test_uploads_of_others_that_go_meanwhile_stop_nobody(tmp_path, monkeypatch):
    uploads = Uploads(tmp_path / "uploads")
    for owner in ("ann", "bob"):
        with uploads.of(owner).receiving("m", "config.json", offset=0, total=2) as receiving:
            receiving.write(b"{}")
            receiving.finish()
    real = uploads_module._files_below
    monkeypatch.setattr(uploads_module, "_files_below", lambda folder: [*real(folder), folder / "gone" / "meanwhile"])
    with uploads.of("cy").receiving("m", "config.json", offset=0, total=2) as receiving:
        receiving.write(b"{}")
    assert uploads.of("ann").received("m", "config.json").complete
    assert uploads.of("ann").bytes_held() == 2
