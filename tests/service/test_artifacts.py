import json

import pytest


def leave(served, audit_id, **folders):
    for name, files in folders.items():
        with served.services.artifacts.folder(audit_id).create(name.replace("__", "-")) as folder:
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
    (shared.services.artifacts.folder(audit_id).find("directions") / "directions.json").symlink_to(tmp_path / "secret")
    assert shared.http.get(f"/audits/{audit_id}/artifacts/directions").json()["files"] == []
    assert shared.http.get(f"/audits/{audit_id}/artifacts/directions/directions.json").status_code == 404
