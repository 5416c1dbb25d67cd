import hashlib
import os

import pytest

from models_store.digests import DigestCache
from models_store.errors import ModelRejected
from models_store.files import FoundFile


def found(path):
    return FoundFile(path.name, path, path.stat().st_size)


def test_a_digest_is_the_contents_sha256_and_is_remembered_across_instances(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(b"weights")
    cache = DigestCache(tmp_path / "cache", settle_s=0)
    assert cache.cached(found(path)) is None
    assert cache.digest(found(path)) == hashlib.sha256(b"weights").hexdigest()
    assert DigestCache(tmp_path / "cache").cached(found(path)) == hashlib.sha256(b"weights").hexdigest()


def test_a_remembered_file_is_not_read_again(tmp_path, monkeypatch):
    path = tmp_path / "w.bin"
    path.write_bytes(b"weights")
    cache = DigestCache(None, settle_s=0)
    first = cache.digest(found(path))
    monkeypatch.setattr("models_store.digests.open_regular", lambda *_: pytest.fail("the file was read again"))
    assert cache.digest(found(path)) == first


def test_a_change_that_keeps_size_and_mtime_is_noticed(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(b"weights")
    before = path.stat()
    cache = DigestCache(None, settle_s=0)
    first = cache.digest(found(path))
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert cache.digest(found(path)) == hashlib.sha256(b"WEIGHTS").hexdigest() != first


def test_a_file_that_just_changed_is_not_remembered(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(b"weights")
    cache = DigestCache(None, settle_s=60)
    cache.digest(found(path))
    assert cache.cached(found(path)) is None


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "w.bin"
    path.write_bytes(b"weights")

    real = hashlib.sha256

    def sha256_while_somebody_writes():
        with path.open("ab") as file:
            file.write(b"!")
        return real()

    monkeypatch.setattr("models_store.digests.hashlib.sha256", sha256_while_somebody_writes)
    with pytest.raises(ModelRejected, match="changed while it was read"):
        DigestCache(None).digest(found(path))


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"a": 1}'])
def test_a_damaged_cache_counts_as_empty(tmp_path, damage):
    (tmp_path / "digests.json").write_bytes(damage)
    path = tmp_path / "w.bin"
    path.write_bytes(b"weights")
    cache = DigestCache(tmp_path, settle_s=0)
    assert cache.digest(found(path)) == hashlib.sha256(b"weights").hexdigest()
    assert DigestCache(tmp_path).cached(found(path))


def test_what_another_process_remembers_is_seen_without_a_restart(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(b"weights")
    listing = DigestCache(tmp_path / "cache", settle_s=0)
    assert listing.cached(found(path)) is None
    digest = DigestCache(tmp_path / "cache", settle_s=0).digest(found(path))
    assert listing.cached(found(path)) == digest
