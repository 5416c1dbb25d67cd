import fcntl
import os
import threading
import time

import pytest

from storage.folder_cache import FolderCache
from tests.storage.filling import descriptors, put


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
    monkeypatch.setattr("storage.folder_cache._MAX_PINNED", 2)
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
    monkeypatch.setattr("storage.folder_cache._PATIENCE_S", 0.05)
    cache = FolderCache(tmp_path, max_bytes=10**9)
    put(cache, "a")
    held = os.open(tmp_path / "a", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert cache.find("a") is None
    os.close(held)
