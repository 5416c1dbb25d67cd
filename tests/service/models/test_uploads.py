import base64
import hashlib
import json
import math
import os
import shutil
import socket
import threading
import time

import pytest

from models_store import uploads as uploads_module
from models_store.uploads import Uploads
from tests.service.conftest import SPEC


def digest_of(content):
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def upload(served, name, folder):
    """Everything that a checkpoint's folder holds, each file in one piece."""
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        served.http.put(
            f"/models/{name}/files/{path.name}", content=content, headers={"Repr-Digest": digest_of(content)}
        ).raise_for_status()


def codes(answer):
    return answer.status_code, answer.json()["code"]


def test_a_checkpoint_is_uploaded_committed_audited_and_deleted(served, toy_adapter):
    upload(served, "candidate", toy_adapter)
    assert served.http.get("/models").json() == {"models": []}, "nothing is visible before the commit"
    kept = served.http.post("/models/candidate/commit")
    assert kept.status_code == 201
    assert kept.json() | {"reference": "store:candidate", "kind": "lora"} == kept.json()
    assert served.http.post("/models/candidate/commit").json() == kept.json()
    (listed,) = served.http.get("/models").json()["models"]
    assert listed["reference"] == "store:candidate"
    weights = (toy_adapter / "adapter_model.safetensors").read_bytes()
    stored = served.dependencies.models.resolve("store:candidate").path / "adapter_model.safetensors"
    assert stored.read_bytes() == weights

    audit_id = served.file(fine_tuned="store:candidate")
    assert codes(served.http.delete("/models/candidate")) == (409, "model_in_use")
    served.http.post(f"/audits/{audit_id}/cancel")
    assert served.http.delete("/models/candidate").status_code == 204
    assert codes(served.http.delete("/models/candidate")) == (404, "model_not_found")
    assert served.http.get("/models").json() == {"models": []}


def test_a_file_is_resumed_where_it_broke_off(served):
    path, content = "/models/big/files/model.safetensors", bytes(range(256)) * 40_000
    assert served.http.head(path).status_code == 404
    first = served.http.put(
        path, content=content[:3_000_000], headers={"Content-Range": f"bytes 0-2999999/{len(content)}"}
    )
    assert (first.status_code, first.json()["complete"], first.headers["upload-offset"]) == (202, False, "3000000")
    there = served.http.head(path)
    assert (there.headers["upload-offset"], there.headers["upload-complete"]) == ("3000000", "?0")
    hole = served.http.put(path, content=b"x", headers={"Content-Range": f"bytes 5-5/{len(content)}"})
    assert codes(hole) == (409, "upload_offset")
    assert hole.headers["upload-offset"] == "3000000"
    rest = served.http.put(
        path,
        content=content[3_000_000:],
        headers={
            "Content-Range": f"bytes 3000000-{len(content) - 1}/{len(content)}",
            "Repr-Digest": digest_of(content),
        },
    )
    assert (rest.status_code, rest.json()["sha256"]) == (201, hashlib.sha256(content).hexdigest())
    done = served.http.head(path)
    assert (done.headers["upload-complete"], done.headers["repr-digest"]) == ("?1", digest_of(content))


def test_what_came_before_the_line_went_dead_stays(served):
    host, port = served.http.base_url.host, served.http.base_url.port
    with socket.create_connection((host, port)) as line:
        line.sendall(
            b"PUT /models/cut/files/model.safetensors HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000000\r\n\r\n"
        )
        line.sendall(b"a" * 1_500_000)
        time.sleep(0.3)
    path = "/models/cut/files/model.safetensors"
    end = time.monotonic() + 10
    while served.http.head(path).headers.get("upload-offset") != "1500000":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert codes(served.http.post("/models/cut/commit")) == (409, "upload_incomplete")
    while True:  # the dead line's request may still hold the upload
        headers = {"Content-Range": "bytes 1500000-4999999/5000000"}
        rest = served.http.put(path, content=b"b" * 3_500_000, headers=headers)
        if rest.status_code != 409:
            break
        assert time.monotonic() < end
    assert rest.status_code == 201
    assert rest.json()["sha256"] == hashlib.sha256(b"a" * 1_500_000 + b"b" * 3_500_000).hexdigest()


def test_a_wrong_digest_is_found_and_the_file_thrown_away(served):
    path = "/models/wrong/files/config.json"
    answer = served.http.put(path, content=b"{}", headers={"Repr-Digest": digest_of(b"[]")})
    assert codes(answer) == (422, "digest_mismatch")
    assert served.http.head(path).status_code == 404


def test_a_second_writer_waits(served):
    with served.dependencies.models.uploads.receiving("busy", "config.json", offset=0, total=None):
        assert codes(served.http.put("/models/busy/files/config.json", content=b"{}")) == (409, "upload_busy")
        assert codes(served.http.delete("/models/busy")) == (409, "upload_busy")
    assert served.http.put("/models/busy/files/config.json", content=b"{}").status_code == 201


@pytest.mark.parametrize(
    "path",
    [
        "pytorch_model.bin",
        "modeling.py",
        "README.md",
        "unknown.json",
        "sub/model.safetensors",
        "../x/config.json",
        "..%2F..%2Fconfig.json",
        ".hidden.safetensors",
        "a%00.safetensors",
        "x" * 250 + ".safetensors",
    ],
)
def test_files_that_no_checkpoint_needs_are_refused(shared, path):
    answer = shared.http.put(f"/models/odd/files/{path}", content=b"x")
    assert answer.status_code in (404, 422)
    assert not list(shared.dependencies.models.uploads.root.glob("*/odd/*/*"))


@pytest.mark.parametrize(
    ("headers", "pointer"),
    [
        ({"Content-Range": "bytes 0-9/5"}, "#/content-range"),
        ({"Content-Range": "bytes */5"}, "#/content-range"),
        ({"Content-Range": "bytes 0-0/5"}, "#/content-range"),
        ({"Content-Range": "bytes 0-4/5"}, "#/content-range"),
        ({"Repr-Digest": "md5=:AA==:"}, "#/repr-digest"),
    ],
)
def test_headers_that_do_not_fit_are_refused(shared, headers, pointer):
    answer = shared.http.put("/models/bad-headers/files/config.json", content=b"{ }", headers=headers)
    assert answer.status_code == 422
    assert [item["pointer"] for item in answer.json()["errors"]] == [pointer]


def test_names_are_checked(shared):
    for call in (
        shared.http.put("/models/Upper/files/config.json", content=b"{}"),
        shared.http.delete("/models/Upper"),
    ):
        assert codes(call) == (422, "invalid_reference")


def test_limits(serve):
    served = serve(upload_limit_gb=1e-6)
    answer = served.http.put("/models/big/files/model.safetensors", content=b"x" * 2_000)
    assert codes(answer) == (422, "model_rejected")
    assert "limit" in answer.json()["errors"][0]["detail"] or "more than" in answer.json()["errors"][0]["detail"]
    part = served.http.put("/models/big/files/a.safetensors", content=b"x" * 700)
    assert part.status_code == 201
    assert codes(served.http.put("/models/big/files/b.safetensors", content=b"x" * 700)) == (422, "model_rejected")


def test_a_checkpoint_that_would_be_refused_is_not_committed(served, toy_adapter):
    upload(served, "bad", toy_adapter)
    config = json.loads((toy_adapter / "adapter_config.json").read_text()) | {"megatron_config": {"x": "y"}}
    served.http.put("/models/bad/files/adapter_config.json", content=json.dumps(config).encode())
    answer = served.http.post("/models/bad/commit")
    assert codes(answer) == (422, "model_rejected")
    assert "adapter_config.json" in answer.json()["errors"][0]["detail"]
    assert served.http.get("/models").json() == {"models": []}
    upload(served, "bad", toy_adapter)
    assert served.http.post("/models/bad/commit").status_code == 201


def test_a_name_is_taken_by_other_weights_alone(served, toy_adapter, tmp_path):
    from tests.toy import write_toy_adapter

    upload(served, "name", toy_adapter)
    served.http.post("/models/name/commit").raise_for_status()
    upload(served, "name", toy_adapter)
    assert served.http.post("/models/name/commit").status_code == 201
    upload(served, "name", write_toy_adapter(tmp_path / "other", toy_adapter.parent / "base", seed=2))
    assert codes(served.http.post("/models/name/commit")) == (409, "name_taken")
    assert served.http.post("/models/nothing/commit").status_code == 404


@pytest.fixture
def owners(serve):
    """A service with keys, and those of three callers."""
    served = serve(require_keys=True)
    keys = served.dependencies.ledger.keys

    def key(owner, *scopes):
        return {"Authorization": f"Bearer {keys.create(owner=owner, name='test', scopes=scopes)[1]}"}

    write = ("audits:read", "audits:write", "models:write")
    return served, key("ann", *write), key("bob", *write), key("root", "admin")


def test_uploads_and_models_have_owners(owners, toy_adapter, tmp_path):
    from tests.toy import write_toy_adapter

    served, ann, bob, _ = owners
    put = served.http.put
    path = "/models/candidate/files/adapter_config.json"
    other = write_toy_adapter(tmp_path / "other", toy_adapter.parent / "base", seed=2)
    for file in toy_adapter.iterdir():
        put(f"/models/candidate/files/{file.name}", content=file.read_bytes(), headers=ann).raise_for_status()
    # Another owner's upload of that name is another one: nothing is seen, written or deleted of the first.
    assert served.http.head(path, headers=bob).status_code == 404
    assert codes(served.http.delete("/models/candidate", headers=bob)) == (404, "model_not_found")
    for file in other.iterdir():
        put(f"/models/candidate/files/{file.name}", content=file.read_bytes(), headers=bob).raise_for_status()
    kept = served.http.post("/models/candidate/commit", headers=ann)
    assert kept.status_code == 201
    assert codes(served.http.post("/models/candidate/commit", headers=bob)) == (409, "name_taken")
    assert served.http.delete("/models/candidate", headers=bob).status_code == 204, "the upload"
    # The model is everybody's to read, and its owner's to delete.
    (listed,) = served.http.get("/models", headers=bob).json()["models"]
    assert (listed["reference"], kept.json()["reference"]) == ("store:candidate", "store:candidate")
    filed = served.http.post("/audits", json=SPEC | {"fine_tuned": "store:candidate"}, headers=bob)
    assert codes(served.http.delete("/models/candidate", headers=bob)) == (404, "model_not_found")
    assert codes(served.http.delete("/models/candidate", headers=ann)) == (409, "model_in_use")
    served.http.post(f"/audits/{filed.json()['id']}/cancel", headers=bob)
    assert served.http.delete("/models/candidate", headers=ann).status_code == 204
    assert served.http.get("/models", headers=ann).json() == {"models": []}


def test_an_administrator_deletes_any_model(owners, toy_adapter):
    served, ann, _, root = owners
    for file in toy_adapter.iterdir():
        served.http.put(f"/models/m/files/{file.name}", content=file.read_bytes(), headers=ann).raise_for_status()
    served.http.post("/models/m/commit", headers=ann).raise_for_status()
    assert served.http.delete("/models/m", headers=root).status_code == 204


def test_unfinished_uploads_are_bounded_for_each_owner(owners):
    served, ann, bob, _ = owners
    for number in range(20):
        answer = served.http.put(f"/models/m{number}/files/config.json", content=b"{}", headers=ann)
        assert answer.status_code == 201
    refused = served.http.put("/models/m20/files/config.json", content=b"{}", headers=ann)
    assert codes(refused) == (409, "upload_refused")
    assert served.http.put("/models/m0/files/tokenizer.json", content=b"{}", headers=ann).status_code == 201
    assert served.http.put("/models/m20/files/config.json", content=b"{}", headers=bob).status_code == 201
    served.http.delete("/models/m3", headers=ann)
    assert served.http.put("/models/m20/files/config.json", content=b"{}", headers=ann).status_code == 201


def test_all_uploads_of_an_owner_together_are_bounded(serve):
    served = serve(upload_limit_gb=1e-6)
    answers = [
        served.http.put(f"/models/m{number}/files/model.safetensors", content=b"x" * 1_000) for number in range(3)
    ]
    assert [answer.status_code for answer in answers[:2]] == [201, 201]
    assert codes(answers[2]) == (422, "model_rejected")


def test_an_upload_leaves_room_on_the_disk(serve):
    served = serve(upload_min_free_gb=1e6)
    assert codes(served.http.put("/models/m/files/config.json", content=b"{}")) == (507, "no_space")


def swell(adapter, target, n_bytes):
    """A copy of an adapter that is a hole of about ``n_bytes``: for a base that is so much wider."""
    shutil.copytree(adapter, target)
    weights = target / "adapter_model.safetensors"
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    rank = json.loads((target / "adapter_config.json").read_text())["r"]
    wider = max(1, n_bytes // sum(end - begin for begin, end in (one["data_offsets"] for one in header.values())))
    offset = 0
    for tensor in header.values():
        tensor["shape"] = [side if side == rank else side * wider for side in tensor["shape"]]
        size = 4 * math.prod(tensor["shape"])
        tensor["data_offsets"] = [offset, offset + size]
        offset += size
    text = json.dumps(header).encode()
    weights.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(weights, 8 + len(text) + offset)
    return target


def received_before_a_restart(served, name, folder):
    """Leave all but the last byte of an adapter's weights as a process left them that has died since."""
    weights = folder / "adapter_model.safetensors"
    with served.dependencies.models.uploads.receiving(name, weights.name, offset=0, total=None):
        pass
    place = served.dependencies.models.uploads._own / name / "parts" / weights.name
    with weights.open("rb") as file:
        place.write_bytes(file.read(1 << 20))
    size = weights.stat().st_size
    os.truncate(place, size - 1)
    served.dependencies.models.uploads._running.clear()
    return size


def push_last_byte(served, name, size, digest=None):
    headers = {"Content-Range": f"bytes {size - 1}-{size - 1}/{size}"} | ({"Repr-Digest": digest} if digest else {})
    return served.http.put(f"/models/{name}/files/adapter_model.safetensors", content=b"\0", headers=headers)


def committed(served, name, patience_s):
    end = time.monotonic() + patience_s
    while (answer := served.http.post(f"/models/{name}/commit")).status_code == 202:
        assert time.monotonic() < end
        time.sleep(0.05)
    return answer


class Reading:
    """Holds whoever reads an uploaded file from its beginning until it is let go, and counts them."""

    def __init__(self, read):
        self._read = read
        self.begun = 0
        self.go = threading.Event()

    def __call__(self, path):
        self.begun += 1
        assert self.go.wait(60)
        return self._read(path)


@pytest.fixture
def reading(monkeypatch):
    held = Reading(uploads_module._sha256)
    monkeypatch.setattr(uploads_module, "_sha256", held)
    yield held
    held.go.set()


def test_no_request_waits_until_a_large_file_is_read(serve, toy_adapter, tmp_path, reading):
    served = serve(commit_patience_s=0)
    folder = swell(toy_adapter, tmp_path / "big", 1_000_000)
    size = received_before_a_restart(served, "big", folder)
    path = "/models/big/files/adapter_model.safetensors"
    last = push_last_byte(served, "big", size)
    assert (last.status_code, last.json()["sha256"]) == (201, None)
    config = (folder / "adapter_config.json").read_bytes()
    served.http.put("/models/big/files/adapter_config.json", content=config).raise_for_status()
    for _ in range(2):
        answer = served.http.post("/models/big/commit")
        assert (answer.status_code, answer.json()["status"]) == (202, "checking")
        assert int(answer.headers["retry-after"]) > 0
    head = served.http.head(path)
    assert (head.headers["upload-offset"], head.headers["upload-complete"]) == (str(size), "?1"), "all is there"
    assert "repr-digest" not in head.headers, "and being checked"
    assert codes(served.http.put(path, content=b"x")) == (409, "upload_busy")
    assert codes(served.http.delete("/models/big")) == (409, "upload_busy")
    reading.go.set()
    kept = committed(served, "big", 60)
    assert kept.status_code == 201
    assert committed(served, "big", 60).json() == kept.json()
    listed = served.http.get("/models").json()["models"]
    assert [model["digest"] for model in listed] == [kept.json()["digest"]]
    assert reading.begun == 1, "the second commit has joined the first, and the third had nothing to read"
    weights = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    names = f"{hashlib.sha256(config).hexdigest()}  adapter_config.json\n{weights}  adapter_model.safetensors\n"
    assert kept.json()["digest"] == f"sha256:{hashlib.sha256(names.encode()).hexdigest()}"


@pytest.mark.long
def test_sixteen_gigabytes_keep_no_request_waiting(served, toy_adapter, tmp_path):
    folder = swell(toy_adapter, tmp_path / "big", 16 * 2**30)
    size = received_before_a_restart(served, "big", folder)
    lasted = {}

    def timed(name, call):
        began = time.monotonic()
        answer = call()
        lasted[name] = time.monotonic() - began
        return answer

    timed("last part", lambda: push_last_byte(served, "big", size)).raise_for_status()
    config = (folder / "adapter_config.json").read_bytes()
    served.http.put("/models/big/files/adapter_config.json", content=config).raise_for_status()
    assert timed("commit", lambda: served.http.post("/models/big/commit")).status_code == 202
    timed("state", lambda: served.http.head("/models/big/files/adapter_model.safetensors"))
    timed("list while it is checked", lambda: served.http.get("/models"))
    assert committed(served, "big", 600).status_code == 201
    timed("commit again", lambda: served.http.post("/models/big/commit"))
    timed("list", lambda: served.http.get("/models"))
    spec = SPEC | {"base_model": "store:big", "fine_tuned": "store:big"}
    timed("dry run", lambda: served.http.post("/audits?dry_run=true", json=spec))
    timed("delete", lambda: served.http.delete("/models/big")).raise_for_status()
    assert max(lasted.values()) < 5, lasted


def test_what_was_not_seen_as_it_came_is_checked_by_the_commit(served, toy_adapter, tmp_path):
    folder = swell(toy_adapter, tmp_path / "big", 1_000_000)
    size = received_before_a_restart(served, "odd", folder)
    assert push_last_byte(served, "odd", size, digest_of(b"another file")).status_code == 201
    config = (folder / "adapter_config.json").read_bytes()
    served.http.put("/models/odd/files/adapter_config.json", content=config).raise_for_status()
    assert codes(served.http.post("/models/odd/commit")) == (422, "digest_mismatch")
    assert served.http.head("/models/odd/files/adapter_model.safetensors").status_code == 404
    upload(served, "odd", folder)
    assert served.http.post("/models/odd/commit").status_code == 201


def test_bytes_are_hashed_as_they_come(served, monkeypatch):
    def read_again(path):
        raise AssertionError("all of it has been seen")

    monkeypatch.setattr("models_store.uploads._sha256", read_again)
    content = bytes(range(256)) * 100
    path = "/models/seen/files/model.safetensors"
    for start in range(0, len(content), 10_000):
        part = content[start : start + 10_000]
        headers = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(content)}"}
        answer = served.http.put(path, content=part, headers=headers)
    assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()


def test_what_another_process_has_written_since_is_not_taken_for_seen(served):
    path, uploads = "/models/two/files/model.safetensors", served.dependencies.models.uploads
    served.http.put(path, content=b"a" * 1_000, headers={"Content-Range": "bytes 0-999/2000"})
    with Uploads(uploads.root).receiving("two", "model.safetensors", offset=0, total=None) as other:
        other.write(b"b" * 1_000)
    rest = served.http.put(path, content=b"b" * 1_000, headers={"Content-Range": "bytes 1000-1999/2000"})
    assert (rest.status_code, rest.json()["sha256"]) == (201, None)
    with uploads.committing("two"):
        assert uploads.digest("two", "model.safetensors") == hashlib.sha256(b"b" * 2_000).hexdigest()


def test_a_commit_of_another_process_is_waited_for(served, toy_adapter):
    upload(served, "shared", toy_adapter)
    with Uploads(served.dependencies.models.uploads.root).committing("shared"):
        assert served.http.post("/models/shared/commit").status_code == 202
    assert committed(served, "shared", 20).status_code == 201


def test_what_an_owner_has_in_the_store_is_bounded(serve, toy_adapter):
    size = sum(file.stat().st_size for file in toy_adapter.iterdir())
    served = serve(models_per_owner_gb=2.5 * size / 2**30)
    for name in ("one", "two"):
        upload(served, name, toy_adapter)
        assert served.http.post(f"/models/{name}/commit").status_code == 201
    weights = (toy_adapter / "adapter_model.safetensors").read_bytes()
    path = "/models/three/files/adapter_model.safetensors"
    assert codes(served.http.put(path, content=weights)) == (413, "store_full"), "its length is declared"
    parts = [
        {"Content-Range": f"bytes {at}-{at + 9_999}/{len(weights)}"} for at in range(0, len(weights) - 9_999, 10_000)
    ]
    assert codes(served.http.put(path, content=weights[:10_000], headers=parts[0])) == (413, "store_full")

    def undeclared():
        yield weights

    refused = served.http.put(path, content=undeclared())
    assert codes(refused) == (413, "store_full")
    assert "models delete" in refused.json()["errors"][0]["detail"]
    served.http.delete("/models/three")
    assert served.http.delete("/models/one").status_code == 204
    upload(served, "three", toy_adapter)
    assert served.http.post("/models/three/commit").status_code == 201


def test_another_owner_has_room_of_its_own(owners_with_little_room, toy_adapter):
    served, ann, bob = owners_with_little_room
    content = (toy_adapter / "adapter_config.json").read_bytes()
    path = "/models/{}/files/adapter_config.json"
    served.http.put(path.format("one"), content=content, headers=ann).raise_for_status()
    assert codes(served.http.put(path.format("two"), content=content, headers=ann)) == (413, "store_full")
    served.http.put(path.format("one"), content=content, headers=bob).raise_for_status()


@pytest.fixture
def owners_with_little_room(serve, toy_adapter):
    size = (toy_adapter / "adapter_config.json").stat().st_size
    served = serve(require_keys=True, models_per_owner_gb=1.5 * size / 2**30)

    def key(owner):
        scopes = ("audits:read", "audits:write", "models:write")
        token = served.dependencies.ledger.keys.create(owner=owner, name="test", scopes=scopes)[1]
        return {"Authorization": f"Bearer {token}"}

    return served, key("ann"), key("bob")


def test_what_all_owners_have_in_the_store_is_bounded(serve, toy_adapter):
    size = sum(file.stat().st_size for file in toy_adapter.iterdir())
    served = serve(models_total_gb=1.5 * size / 2**30)
    upload(served, "one", toy_adapter)
    assert served.http.post("/models/one/commit").status_code == 201
    weights = (toy_adapter / "adapter_model.safetensors").read_bytes()
    refused = served.http.put("/models/two/files/adapter_model.safetensors", content=weights)
    assert codes(refused) == (507, "no_space")


def test_a_commit_has_room_for_what_it_keeps_too(serve, toy_adapter):
    served = serve()
    upload(served, "late", toy_adapter)
    store = served.dependencies.models
    store._committed._owner_limit = 10
    assert codes(served.http.post("/models/late/commit")) == (413, "store_full")
    store._committed._owner_limit = None
    assert served.http.post("/models/late/commit").status_code == 201
