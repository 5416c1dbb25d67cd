import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from audit.ports import FolderStore
from storage.artifacts import ArtifactFolder, ArtifactStore, FolderCache
from storage.errors import InvalidLocation

ROOT = Path(__file__).parents[2]


def put(store, name, size=10):
    with store.create(name) as folder:
        (folder / "data").write_bytes(b"x" * size)
        (folder / "sub").mkdir()
        (folder / "sub" / "note").write_text(name)


def entries(root):
    return sorted(path.name for path in root.iterdir())


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def hold_open(root, name):
    """A process that fills ``name``, says so, and waits to be killed."""
    code = (
        "import sys, time, pathlib; from storage.artifacts import *\n"
        "store = ArtifactFolder(pathlib.Path(sys.argv[1]))\n"
        "with store.create(sys.argv[2]) as folder:\n"
        "    (folder / 'half').write_text('half')\n"
        "    print('filling', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root), name], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "filling\n"
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


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


def many(root, barrier, won):
    store = FolderCache(Path(root), max_bytes=10**9)
    for number in range(20):
        barrier.wait()
        with store.create(f"shard-{number}") as folder:
            (folder / "data").write_text(str(os.getpid()))
            (folder / "again").write_text(str(os.getpid()))
        found = store.find(f"shard-{number}")
        won.put((found / "data").read_text() == (found / "again").read_text())


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


def test_the_longest_unused_goes_first(tmp_path):
    cache = FolderCache(tmp_path, max_bytes=3_500)
    for name in ("a", "b", "c"):
        put(cache, name, size=1_000)
        time.sleep(0.02)
    assert cache.find("a")
    cache.close()
    put(cache, "d", size=1_000)
    assert list(cache.names()) == ["a", "c", "d"]


def test_what_was_just_written_stays_even_when_it_is_too_large(tmp_path):
    cache = FolderCache(tmp_path, max_bytes=100)
    put(cache, "a", size=1_000)
    put(cache, "b", size=1_000)
    assert list(cache.names()) == ["b"]


def test_what_a_living_process_has_found_is_not_evicted(tmp_path):
    cache = FolderCache(tmp_path, max_bytes=100)
    put(cache, "a", size=1_000)
    reader = FolderCache(tmp_path, max_bytes=100)
    assert reader.find("a")
    put(cache, "b", size=1_000)
    assert list(cache.names()) == ["a", "b"]
    reader.close()
    assert cache.evict(keep="b") == ["a"]


def test_only_so_many_folders_are_held_open(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.artifacts._MAX_PINNED", 2)
    cache = FolderCache(tmp_path, max_bytes=10**9)
    for name in ("a", "b", "c"):
        put(cache, name)
        assert cache.find(name)
    before = descriptors()
    cache.close()
    assert before - descriptors() == 2


def test_no_descriptor_is_left_open(tmp_path):
    before = descriptors()
    cache = FolderCache(tmp_path, max_bytes=1_500)
    for number in range(5):
        put(cache, f"n{number}", size=1_000)
        cache.find("nothing")
    with pytest.raises(RuntimeError), cache.create("x"):
        raise RuntimeError
    cache.close()
    assert descriptors() == before


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


def test_a_reader_waits_while_the_writer_still_holds_what_it_has_placed(tmp_path):
    cache = FolderCache(tmp_path, max_bytes=10**9)
    put(cache, "a")
    held = os.open(tmp_path / "a", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    letting_go = threading.Timer(0.2, os.close, args=(held,))
    letting_go.start()
    assert cache.find("a")
    letting_go.join()
    cache.close()


def test_a_folder_that_is_held_for_long_counts_as_absent(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.artifacts._PATIENCE_S", 0.05)
    cache = FolderCache(tmp_path, max_bytes=10**9)
    put(cache, "a")
    held = os.open(tmp_path / "a", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert cache.find("a") is None
    os.close(held)


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
