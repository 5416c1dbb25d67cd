import base64
import hashlib
import json
import socket
import time

import pytest

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
    rest = served.http.put(path, content=b"b" * 3_500_000, headers={"Content-Range": "bytes 1500000-4999999/5000000"})
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
