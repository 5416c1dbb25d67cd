import errno
import multiprocessing
import os
import subprocess
from pathlib import Path

import pytest

from audit.ports import FolderStore
from storage.folder_cache import FolderCache
from storage.folders import ArtifactFolder
from tests.storage.filling import entries, hold_open, kill, put


def many(root, barrier, won):
    store = FolderCache(Path(root), max_bytes=10**9)
    for number in range(20):
        barrier.wait()
        with store.create(f"shard-{number}") as folder:
            (folder / "data").write_text(str(os.getpid()))
            (folder / "again").write_text(str(os.getpid()))
        found = store.find(f"shard-{number}")
        won.put((found / "data").read_text() == (found / "again").read_text())


@pytest.mark.parametrize("make", [ArtifactFolder, lambda root: FolderCache(root, max_bytes=10**9)])
def test_both_are_what_an_audit_is_given(tmp_path, make):
    store = make(tmp_path / "a")
    assert isinstance(store, FolderStore)
    assert store.find("one") is None
    assert list(store.names()) == []
    assert not (tmp_path / "a").exists()
    put(store, "two")
    put(store, "one")
    assert list(store.names()) == ["one", "two"]
    assert (store.find("one") / "sub" / "note").read_text() == "one"
    store.remove("one")
    store.remove("one")
    assert store.find("one") is None
    assert list(store.names()) == ["two"]


def test_a_folder_is_invisible_until_it_is_whole(tmp_path):
    store = ArtifactFolder(tmp_path)
    with store.create("a") as folder:
        (folder / "data").write_text("x")
        assert store.find("a") is None
        assert list(store.names()) == []
    assert store.find("a")


def test_a_failure_leaves_nothing_and_comes_through(tmp_path):
    store = ArtifactFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing"), store.create("a") as folder:
        (folder / "data").rename(folder / "nothing" / "here")
    assert entries(tmp_path) == []


def test_what_is_there_already_stays(tmp_path):
    store = ArtifactFolder(tmp_path)
    with store.create("a") as slow:
        put(store, "a", size=3)
        (slow / "data").write_bytes(b"y" * 99)
    assert (store.find("a") / "data").read_bytes() == b"xxx"
    assert entries(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", ".hidden", "a\n", "/a", "a" * 300, "a b"])
def test_a_name_is_one_plain_part(tmp_path, name):
    store = ArtifactFolder(tmp_path)
    for use in (store.find, store.remove, lambda name: store.create(name).__enter__()):
        with pytest.raises(ValueError, match="name of an artifact"):
            use(name)


def test_leftovers_of_dead_processes_are_cleaned_and_work_in_progress_is_not(tmp_path):
    process = hold_open(tmp_path, "a")
    try:
        store = ArtifactFolder(tmp_path)
        (tmp_path / ".trash-left").mkdir()
        put(store, "b")
        left = [name for name in entries(tmp_path) if name.startswith(".")]
        assert len(left) == 1
        assert left[0].startswith(".tmp-")
    finally:
        kill(process)
    put(store, "c")
    assert entries(tmp_path) == ["b", "c"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_no_space_left_is_raised_and_cleaned_up(tmp_path):
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mount.stderr.decode().strip()}")
    try:
        store = ArtifactFolder(tmp_path)
        put(store, "small", size=1000)
        with pytest.raises(OSError, match="No space left") as caught, store.create("big") as folder:
            (folder / "data").write_bytes(b"x" * 2 * 1024**2)
        assert caught.value.errno == errno.ENOSPC
        assert entries(tmp_path) == ["small"]
        put(store, "next", size=500_000)
        assert store.find("next")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_two_processes_that_write_the_same_name_are_both_fine(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(2, timeout=60), context.Queue()
    workers = [context.Process(target=many, args=(str(tmp_path), barrier, won)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert all(won.get(timeout=60) for _ in range(40))
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    won.close()
    assert [name for name in entries(tmp_path) if not name.startswith(".")] == sorted(f"shard-{n}" for n in range(20))
    assert not [name for name in entries(tmp_path) if name.startswith((".tmp", ".trash"))]


def test_obtain_writes_once_and_leaves_nothing_after_a_failure(tmp_path):
    folder, written = ArtifactFolder(tmp_path / "root"), []

    def write(path):
        (path / "file").write_text("whole")
        written.append(path)

    def fail(path):
        (path / "file").write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        folder.obtain("name", fail)
    assert list(folder.names()) == []
    for _ in range(2):
        assert (folder.obtain("name", write) / "file").read_text() == "whole"
    assert len(written) == 1
