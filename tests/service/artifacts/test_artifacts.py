import json

import pytest

from storage.folders import ArtifactFolder
from storage.objects import ObjectArtifacts


def leave(served, audit_id, **folders):
    for name, files in folders.items():
        with served.dependencies.artifacts.folder(audit_id).create(name.replace("__", "-")) as folder:
            for file, content in files.items():
                (folder / file.replace("__", ".")).write_bytes(content)


def test_what_an_audit_left_is_listed_and_fetched(shared):
    audit_id = shared.file()
    config = json.dumps({"d_in": 4}).encode()
    leave(
        shared,
        audit_id,
        dictionary__diff_sae__3__0={"cfg__json": config, "sae_weights__safetensors": b"0123456789"},
        confirmation={"confirmation__json": b"{}"},
        report={"report__json": b"{}"},
        plan={"plan__json": b"{}"},
    )
    listed = shared.http.get(f"/audits/{audit_id}/artifacts").json()["artifacts"]
    assert [(one["name"], one["kind"]) for one in listed] == [
        ("confirmation", "measurements"),
        ("dictionary-diff_sae-3-0", "dictionary"),
    ]
    assert listed[1]["size_bytes"] == len(config) + 10
    assert shared.http.get(f"/audits/{audit_id}/artifacts/dictionary-diff_sae-3-0").json() == listed[1]
    links = {file["name"]: file["link"] for file in listed[1]["files"]}
    assert shared.http.get(links["cfg.json"]).json() == {"d_in": 4}
    weights = shared.http.get(links["sae_weights.safetensors"])
    assert weights.content == b"0123456789"
    again = shared.http.get(links["sae_weights.safetensors"], headers={"If-None-Match": weights.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    part = shared.http.get(links["sae_weights.safetensors"], headers={"Range": "bytes=4-5"})
    assert (part.status_code, part.content) == (206, b"45")


@pytest.mark.parametrize(
    "path",
    [
        "report",
        "plan/plan.json",
        "directions",
        "%2e%2e%2freport",
        "confirmation/..%2Freport%2Freport.json",
        "confirmation/x",
        "a b",
    ],
)
def test_nothing_else_is_fetched(shared, path):
    audit_id = shared.file()
    leave(shared, audit_id, confirmation={"confirmation__json": b"{}"}, plan={"plan__json": b"{}"}, report={"x": b""})
    assert shared.http.get(f"/audits/{audit_id}/artifacts/{path}").status_code == 404


def test_links_are_not_followed(shared, tmp_path):
    audit_id = shared.file()
    (tmp_path / "secret").write_text("secret")
    leave(shared, audit_id, directions={})
    (shared.dependencies.artifacts.folder(audit_id).find("directions") / "directions.json").symlink_to(
        tmp_path / "secret"
    )
    assert shared.http.get(f"/audits/{audit_id}/artifacts/directions").json()["files"] == []
    assert shared.http.get(f"/audits/{audit_id}/artifacts/directions/directions.json").status_code == 404


RANGES = [
    (None, 200, b"0123456789", None),
    ("bytes=4-5", 206, b"45", "bytes 4-5/10"),
    ("bytes=8-", 206, b"89", "bytes 8-9/10"),
    ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
    ("bytes=-3", 206, b"789", "bytes 7-9/10"),
    ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
    ("bytes=10-", 416, None, "bytes */10"),
    ("bytes=-0", 416, None, "bytes */10"),
    ("bytes=1-2,4-5", 200, b"0123456789", None),
    ("bytes=5-4", 200, b"0123456789", None),
    ("bytes=-", 200, b"0123456789", None),
    ("lines=1-2", 200, b"0123456789", None),
]


@pytest.mark.parametrize(("wanted", "status", "content", "told"), RANGES)
def test_one_range_is_heard(shared, wanted, status, content, told):
    audit_id = shared.file()
    leave(shared, audit_id, directions={"data__bin": b"0123456789"})
    path = f"/audits/{audit_id}/artifacts/directions/data.bin"
    answer = shared.http.get(path, headers={} if wanted is None else {"Range": wanted})
    assert answer.status_code == status
    assert answer.headers.get("content-range") == told
    if content is not None:
        assert answer.content == content
        assert answer.headers["content-length"] == str(len(content))
        assert answer.headers["content-disposition"] == 'attachment; filename="data.bin"'


def test_a_range_of_what_has_changed_is_the_whole(shared):
    audit_id = shared.file()
    leave(shared, audit_id, directions={"data__bin": b"0123456789"})
    path = f"/audits/{audit_id}/artifacts/directions/data.bin"
    etag = shared.http.get(path).headers["etag"]
    assert shared.http.get(path, headers={"Range": "bytes=4-5", "If-Range": etag}).content == b"45"
    assert shared.http.get(path, headers={"Range": "bytes=4-5", "If-Range": '"another"'}).status_code == 200


def test_an_object_store_holds_them_as_well(serve, buckets, bucket_url, tmp_path):
    served = serve(artifacts_url=bucket_url)
    audit_id = served.file()
    served.succeed(audit_id)
    data = bytes(range(256)) * 40_000
    with ArtifactFolder(tmp_path / "work").create("directions") as folder:
        (folder / "directions.json").write_bytes(b'{"layer": 1}')
        (folder / "directions.safetensors").write_bytes(data)
    store = ObjectArtifacts(bucket_url)
    store.publish(audit_id, "directions", tmp_path / "work" / "directions")
    store.publish(audit_id, "plan", tmp_path / "work" / "directions")
    (listed,) = served.http.get(f"/audits/{audit_id}/artifacts").json()["artifacts"]
    assert listed["size_bytes"] == len(data) + 12
    config, weights = (file["link"] for file in listed["files"])
    assert served.http.get(config).json() == {"layer": 1}
    whole = served.http.get(weights)
    assert whole.content == data
    assert served.http.get(weights, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    part = served.http.get(weights, headers={"Range": "bytes=8388600-8388619", "If-Range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, data[8_388_600:8_388_620])
    assert served.http.get(f"/audits/{audit_id}/artifacts/plan/directions.json").status_code == 404
    with buckets.down():
        for answer in (
            served.http.get(f"/audits/{audit_id}/artifacts"),
            served.http.get(weights),
            served.http.delete(f"/audits/{audit_id}"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
            assert answer.headers["retry-after"]
        assert served.http.get(f"/audits/{audit_id}/report").status_code == 200
    assert served.http.delete(f"/audits/{audit_id}").status_code == 204
    assert store.list(audit_id) == []
