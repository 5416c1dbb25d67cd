"""Each owner's cache is its own, and all of them together are bounded."""

import os
from pathlib import Path

from storage.folder_cache import FolderCache
from worker.attempts.caches import cache_of, make_room


def fill(cache: Path, name: str, size: int, used_at: float) -> None:
    with FolderCache(cache, max_bytes=10**9).create(name) as folder:
        (folder / "file").write_bytes(bytes(size))
    os.utime(cache / name, (used_at, used_at))


def names(cache: Path) -> set[str]:
    return set(FolderCache(cache, max_bytes=10**9).names())


def test_owners_have_caches_of_their_own(tmp_path: Path) -> None:
    ann, bob = cache_of(tmp_path, "ann"), cache_of(tmp_path, "../bob/\0")
    assert ann != bob
    assert ann.parent == bob.parent == tmp_path
    assert "ann" not in ann.name


def test_what_others_have_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    own, bob, cy = (cache_of(tmp_path, owner) for owner in ("ann", "bob", "cy"))
    make_room(tmp_path, own, 100)  # nothing is there yet
    fill(tmp_path, "shared", 10, 1)  # by an earlier version
    fill(own, "a", 100_000, 1)
    fill(bob, "old", 100_000, 2)
    fill(bob, "new", 100_000, 4)
    fill(cy, "c", 100_000, 3)
    make_room(tmp_path, own, 10**9)
    assert (names(own), names(bob), names(cy)) == ({"a"}, {"old", "new"}, {"c"})
    assert not (tmp_path / "shared").exists()
    make_room(tmp_path, own, 320_000)
    assert (names(own), names(bob), names(cy)) == ({"a"}, {"old", "new"}, set())
    make_room(tmp_path, own, 220_000)
    assert (names(own), names(bob)) == ({"a"}, {"new"})
    make_room(tmp_path, own, 50_000)
    assert (names(own), names(bob)) == ({"a"}, set())


def test_what_an_audit_hides_in_its_cache_keeps_nobodys_cache_from_making_room(tmp_path: Path) -> None:
    own, bob, cy = (cache_of(tmp_path, owner) for owner in ("ann", "bob", "cy"))
    for cache in (own, bob, cy):
        fill(cache, "a", 100_000, 1)
    (bob / ".hidden").mkdir()
    (bob / ".hidden" / "large").write_bytes(bytes(1_000_000))
    (bob / "plain file").write_bytes(bytes(1_000_000))
    (bob / "nowhere").symlink_to(tmp_path / "gone")
    os.utime(bob / "a", (4e9, 4e9))  # used in the future
    make_room(tmp_path, own, 250_000)
    assert {path.name for path in bob.iterdir()} <= {"a", ".eviction.lock"}
    assert names(own) == {"a"}
    assert len(names(bob)) + len(names(cy)) == 1
