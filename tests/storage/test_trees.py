"""Folders as a stranger's code may leave them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage import trees
from storage.artifacts import ArtifactStore
from storage.folder_cache import FolderCache
from storage.folders import ArtifactFolder
from storage.trees import remove_tree, tree_bytes

DEPTH = 3_000
"""Deeper than Python recurses, than a path may be long, and than descriptors are permitted."""


def nest(folder: Path, depth: int = DEPTH) -> None:
    """Nested folders with a file in the innermost one, made from inside, where no path is too long."""
    code = f"""
import os, sys
os.makedirs(sys.argv[1])
os.chdir(sys.argv[1])
for _ in range({depth}):
    os.mkdir("d")
    os.chdir("d")
open("f", "w").write("x")
"""
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=60)


def test_nested_folders_are_deleted_and_stop_nobody(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    nest(tmp_path / "audit_1" / "deep")
    nest(tmp_path / "audit_2" / ".tmp-left")
    (tmp_path / "audit_3" / "plan").mkdir(parents=True)
    store.delete("audit_1")
    store.folder("audit_2").clean()
    store.delete("audit_3")
    store.delete("audit_2")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_deleted_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nest(tmp_path / ".trash-left", 5)
    real = os.rmdir

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        if path == "d":
            raise PermissionError(path)
        real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", refuse)
    (tmp_path / "audit_1").mkdir()
    ArtifactStore(tmp_path).delete("audit_1")
    assert not (tmp_path / "audit_1").exists()
    assert (tmp_path / ".trash-left").exists()


def test_links_are_deleted_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "gone").symlink_to(tmp_path / "nowhere")
    (inside / "closed").mkdir(mode=0)
    os.mkfifo(inside / "pipe")
    (tmp_path / "itself").symlink_to(outside)
    assert tree_bytes(inside) < 1_000
    assert remove_tree(inside)
    assert remove_tree(tmp_path / "itself")
    assert remove_tree(tmp_path / "never was")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (outside / "kept").read_text() == "kept"


def test_bytes_are_counted_at_any_depth_and_where_nobody_is_let_in(tmp_path: Path) -> None:
    nest(tmp_path / "tree")
    for name, mode in (("closed", 0o300), ("open", 0o700)):
        (tmp_path / "tree" / name).mkdir()
        (tmp_path / "tree" / name / "large").write_bytes(bytes(1_000))
        (tmp_path / "tree" / name).chmod(mode)
    (tmp_path / "tree" / "loop").symlink_to(tmp_path)
    found = subprocess.run(
        [sys.executable, "-c", AS_A_USER + MEASURE, str(tmp_path / "tree")], capture_output=True, text=True, check=True
    )
    link = (tmp_path / "tree" / "loop").lstat().st_size
    assert remove_tree(tmp_path / "tree")  # whoever clears the folder of tests recurses
    assert int(found.stdout) == 2_000 + 1 + link, "the innermost file has one byte"


AS_A_USER = """
import sys
from worker.sandbox import confinement
confinement._ROOT_KEEPS = 0
assert confinement._drop_capabilities() or sys.platform != "linux"
"""
MEASURE = """
from pathlib import Path
from storage.trees import tree_bytes
print(tree_bytes(Path(sys.argv[1])))
"""


def test_a_folder_with_very_many_files_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_BATCH", 10)
    (tmp_path / "crowd" / "inner").mkdir(parents=True)
    for number in range(95):
        (tmp_path / "crowd" / f"f{number}").write_text("x")
        (tmp_path / "crowd" / "inner" / f"f{number}").write_text("x")
    assert tree_bytes(tmp_path / "crowd") == 190
    assert remove_tree(tmp_path / "crowd")


def test_what_is_added_while_it_is_deleted_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_MOST_PASSES", 20)
    nest(tmp_path / "tree", 50)
    real, passes = trees._remove_level, []

    def adding(top: int) -> bool:
        passes.append(os.mkdir("more", dir_fd=top))
        return real(top)

    monkeypatch.setattr(trees, "_remove_level", adding)
    remove_tree(tmp_path / "tree")
    assert len(passes) == 20


def test_what_a_sandbox_hides_beside_its_folders_is_swept(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path)
    with folder.create("kept") as filled:
        (filled / "f").write_text("x")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "a name with spaces").mkdir()
    (tmp_path / "file").write_bytes(bytes(100))
    (tmp_path / ".tmp-dead").mkdir()
    (tmp_path / "link").symlink_to("/")
    (tmp_path / ".eviction.lock").touch()
    with folder.create("in work"[3:]) as filled:
        folder.sweep()
        (filled / "f").write_text("x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".eviction.lock", "kept", "work"]


def test_a_cache_is_measured_and_evicted_whatever_is_in_it(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path, max_bytes=10)
    nest(tmp_path / "deep" / "inner")
    (tmp_path / "deep" / "large").write_bytes(bytes(100))
    assert cache.size_bytes() >= 100
    assert cache.evict() == ["deep"]
    assert list(cache.names()) == []


def test_of_very_many_folders_as_many_as_are_wanted_are_named(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"f{number:02}").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "a-file").write_text("x")
    assert list(ArtifactFolder(tmp_path).names(most=3)) == ["f00", "f01", "f02"]
    assert len(list(ArtifactFolder(tmp_path).names())) == 50
