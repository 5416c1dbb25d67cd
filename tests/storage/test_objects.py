import hashlib
import os
import subprocess
import sys
from pathlib import Path

import httpx
import obstore
import pytest
from obstore.store import from_url

from storage.artifacts import ArtifactStore
from storage.errors import InvalidLocation, StorageUnavailable
from storage.folders import ArtifactFolder
from storage.locations import is_object_store, open_artifacts
from storage.objects import ObjectArtifacts
from tests.buckets import SECRET

ROOT = Path(__file__).parents[2]
AUDIT = "audit_01"


@pytest.fixture
def store(bucket_url):
    return ObjectArtifacts(bucket_url)


@pytest.fixture
def local(tmp_path):
    return ArtifactFolder(tmp_path / "local")


def fill(local, name, **files):
    with local.create(name) as folder:
        for file, content in files.items():
            (folder / file).write_bytes(content)
    return local.find(name)


def content(store, name):
    return {file.name: b"".join(store.read(file, 0, file.size_bytes)) for file in store.files(AUDIT, name)}


def keys(url):
    return sorted(entry["path"] for page in obstore.list(from_url(url)) for entry in page)


def opened(folder):
    """What this process holds open of a folder and what is in it."""
    places = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [place for place in places if place.startswith(str(folder))]


def test_a_folder_is_published_looked_at_read_and_fetched(store, local, tmp_path):
    large = os.urandom(9 * 1024**2)  # more than one piece, so that it goes in parts
    folder = fill(local, "dictionary-a=1,b@2", cfg=b"{}", weights=large, empty=b"")
    assert store.list(AUDIT) == []
    assert store.files(AUDIT, "dictionary-a=1,b@2") is None
    assert store.publish(AUDIT, "dictionary-a=1,b@2", folder)
    assert store.list(AUDIT) == ["dictionary-a=1,b@2"]
    assert list(store.audits()) == [AUDIT]
    files = store.files(AUDIT, "dictionary-a=1,b@2")
    assert [(file.name, file.size_bytes) for file in files] == [("cfg", 2), ("empty", 0), ("weights", len(large))]
    assert files[2].etag == f'"{hashlib.sha256(large).hexdigest()}"'
    assert content(store, "dictionary-a=1,b@2") == {"cfg": b"{}", "empty": b"", "weights": large}
    assert b"".join(store.read(files[2], 8_388_600, 8_388_620)) == large[8_388_600:8_388_620]
    elsewhere = ArtifactFolder(tmp_path / "elsewhere")
    assert store.fetch(AUDIT, "dictionary-a=1,b@2", elsewhere)
    assert (elsewhere.find("dictionary-a=1,b@2") / "weights").read_bytes() == large
    assert not store.fetch(AUDIT, "nothing", elsewhere)


def test_what_is_there_is_not_sent_again_and_what_differs_takes_its_place(store, local, bucket_url, tmp_path):
    folder = fill(local, "plan", data=b"one")
    store.publish(AUDIT, "plan", folder)
    first = keys(bucket_url)
    store.publish(AUDIT, "plan", folder)
    assert keys(bucket_url) == first
    store.publish(AUDIT, "plan", fill(ArtifactFolder(tmp_path / "other"), "plan", data=b"two", more=b"3"))
    assert content(store, "plan") == {"data": b"two", "more": b"3"}
    assert len(keys(bucket_url)) == 3
    assert not set(first[:1]) & set(keys(bucket_url))


def test_nothing_is_seen_of_a_folder_that_is_not_whole(store, local, bucket_url, monkeypatch):
    folder = fill(local, "plan", a=b"1", b=b"2")
    seen = []
    send = ObjectArtifacts._send

    def watched(self, key, *rest):
        send(self, key, *rest)
        seen.append((store.list(AUDIT), store.files(AUDIT, "plan"), len(keys(bucket_url))))

    monkeypatch.setattr(ObjectArtifacts, "_send", watched)
    assert not store.publish(AUDIT, "plan", folder, wanted=lambda: False)
    assert seen == [([], None, 1), ([], None, 2)]
    assert keys(bucket_url) == []
    assert store.publish(AUDIT, "plan", folder)
    assert content(store, "plan") == {"a": b"1", "b": b"2"}


def test_only_plain_files_go_along(store, local, tmp_path):
    (tmp_path / "secret").write_text("secret")
    folder = fill(local, "plan", data=b"1")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "second").hardlink_to(tmp_path / "secret")
    (folder / "sub").mkdir()
    (folder / ".hidden").write_text("x")
    (folder / "ünicode").write_text("x")
    os.mkfifo(folder / "fifo")
    store.publish(AUDIT, "plan", folder)
    assert opened(tmp_path) == []
    assert content(store, "plan") == {"data": b"1"}
    (tmp_path / "elsewhere").symlink_to(folder)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        store.publish(AUDIT, "other", tmp_path / "elsewhere")


def test_deleted_is_gone_and_others_stay(store, local, bucket_url):
    folder = fill(local, "plan", data=b"1")
    store.publish(AUDIT, "plan", folder)
    store.publish("audit_011", "plan", folder)
    store.delete(AUDIT)
    store.delete(AUDIT)
    assert store.list(AUDIT) == []
    assert store.files(AUDIT, "plan") is None
    assert list(store.audits()) == ["audit_011"]
    assert len(keys(bucket_url)) == 2


def test_what_was_changed_behind_its_back_is_not_fetched(store, local, bucket_url, tmp_path):
    store.publish(AUDIT, "plan", fill(local, "plan", data=b"1"))
    obstore.put(from_url(bucket_url), next(key for key in keys(bucket_url) if key.endswith("/data")), b"2")
    into = ArtifactFolder(tmp_path / "elsewhere")
    assert not store.fetch(AUDIT, "plan", into)
    assert list(into.names()) == []
    obstore.put(from_url(bucket_url), f"{AUDIT}/index/plan", b'{"write": "../../x", "files": []}')
    with pytest.raises(StorageUnavailable, match="index is not readable"):
        store.files(AUDIT, "plan")


@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden", "a\n"])
def test_a_name_is_one_plain_part(store, tmp_path, name):
    with pytest.raises(ValueError, match="name of an artifact"):
        store.files(AUDIT, name)
    with pytest.raises(ValueError, match="audit's id"):
        store.delete(name)


def test_a_store_that_is_out_is_unavailable_and_then_comes_back(store, buckets, local):
    folder = fill(local, "plan", data=b"1")
    with buckets.down():
        for use in (
            lambda: store.list(AUDIT),
            lambda: store.files(AUDIT, "plan"),
            lambda: store.publish(AUDIT, "plan", folder),
            lambda: store.fetch(AUDIT, "plan", local),
            lambda: store.delete(AUDIT),
            store.probe,
        ):
            with pytest.raises(StorageUnavailable, match="did not respond") as caught:
                use()
            assert SECRET not in f"{caught.value}{caught.value.__cause__}"
    assert store.list(AUDIT) == []
    assert store.publish(AUDIT, "plan", folder)
    store.probe()
    assert store.list(AUDIT) == ["plan"]


def test_a_bucket_that_is_not_there_is_named_as_the_fault(buckets):
    with pytest.raises(StorageUnavailable, match="no such bucket") as caught:
        ObjectArtifacts("s3://nobody-made-this/x").probe()
    assert "ARTIFACTS_URL" in caught.value.hint


def test_refused_credentials_are_named_as_the_fault(bucket_url, buckets):
    store = ObjectArtifacts(bucket_url)
    httpx.post(f"{buckets.url}/moto-api/reset-auth", content=b"0").raise_for_status()
    try:
        with pytest.raises(StorageUnavailable, match="refused the credentials"):
            store.probe()
    finally:
        httpx.post(f"{buckets.url}/moto-api/reset-auth", content=b"inf").raise_for_status()


@pytest.mark.parametrize(
    "location",
    [
        "s3://key:secret-word@bucket/x",
        "s3://bucket/x?AWS_SECRET_ACCESS_KEY=secret-word",
        "s3://bucket/x#secret-word",
        "s3:///secret-word",
        "ftp://host/secret-word",
        "https://host/secret-word",
    ],
)
def test_other_addresses_are_refused_without_being_repeated(location):
    with pytest.raises(InvalidLocation) as caught:
        open_artifacts(location)
    assert "s3://bucket/prefix" in caught.value.hint
    assert "secret-word" not in f"{caught.value} {caught.value.hint}"


def test_a_folder_stays_a_folder(tmp_path):
    for location in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
        assert not is_object_store(location)
        assert isinstance(open_artifacts(location), ArtifactStore)


def test_without_the_library_the_extra_is_named():
    code = (
        "import sys; sys.modules['obstore'] = None\n"
        "from storage.locations import open_artifacts\n"
        "open_artifacts('/tmp/folder')\n"
        "try: open_artifacts('s3://bucket/x')\n"
        "except Exception as error: print(type(error).__name__, error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "InvalidLocation pip install 'backdoor-audit[objects]'\n"
