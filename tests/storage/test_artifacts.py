import pytest

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
