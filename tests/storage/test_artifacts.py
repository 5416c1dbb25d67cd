import pytest

from storage import artifacts
from storage.artifacts import ArtifactStore
from storage.errors import InvalidLocation
from tests.storage.filling import entries, put


@pytest.mark.parametrize("form", [str, lambda path: path, lambda path: path.as_uri()])
def test_an_audits_artifacts_are_kept_apart_and_deleted_together(tmp_path, form):
    store = ArtifactStore(form(tmp_path / "audits dir"))
    assert store.list("audit_1") == []
    put(store.folder("audit_1"), "extract")
    put(store.folder("audit_1"), "train")
    put(store.folder("audit_2"), "extract")
    assert store.list("audit_1") == ["extract", "train"]
    store.delete("audit_1")
    store.delete("audit_1")
    assert store.list("audit_1") == []
    assert store.list("audit_2") == ["extract"]
    assert entries(tmp_path / "audits dir") == ["audit_2"]


def test_other_places_and_ids_are_refused(tmp_path):
    with pytest.raises(InvalidLocation, match="s3://"):
        ArtifactStore("s3://bucket/audits")
    for audit_id in ("", "../x", "a/b", "."):
        with pytest.raises(ValueError, match="audit's id"):
            ArtifactStore(tmp_path).folder(audit_id)


def test_of_what_a_sandbox_leaves_as_many_files_are_listed_as_an_artifact_may_have(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "MAX_FILES", 3)
    store = ArtifactStore(tmp_path)
    for number in range(5):
        with store.folder("audit_1").create(f"decoy-{number}") as folder:
            for name in ("e", "d", "c", "b", "a", "new\nline", " space", ".hidden"):
                (folder / name).write_text("x")
    assert store.list("audit_1") == ["decoy-0", "decoy-1", "decoy-2"]
    assert [file.name for file in store.files("audit_1", "decoy-0")] == ["a", "b", "c"]
