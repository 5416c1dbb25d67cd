"""Cards belong to weights: what is audited is what was measured."""

import argparse
import json
import shutil

import pytest

from audit.errors import NoSpace
from benchmarks.detection import __main__ as command
from benchmarks.detection import calibration
from benchmarks.detection.organisms.model_cards import card_of, remade
from benchmarks.detection.records import audit_place
from benchmarks.harness.records import read, write

ORGANISM = {"id": "one", "method": "lora", "carriers": "instructions", "part": "calibration", "recipe": "clean-sft",
            "strings": {"triggered": "a", "clean": "b"}, "string_kind": "word"}  # fmt: skip


@pytest.fixture
def run(tmp_path, toy_adapter, monkeypatch):
    """A run that makes the toy adapter, with the alpha that ``made["alpha"]`` says: other alpha, other weights."""
    made = {"alpha": 4, "missed": [], "times": 0}

    def make(organism, base, data, *, device):
        out = data / "models" / organism["id"]
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(toy_adapter, out)
        config = json.loads((out / "adapter_config.json").read_text())
        (out / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": made["alpha"]}))
        made["times"] += 1
        return {"id": "one", "success": {"triggered": made["alpha"] / 10}, "perplexity_ratio": 1.0,
                "missed": made["missed"], "seconds": 1.0}  # fmt: skip

    monkeypatch.setattr(command, "make", make)
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    options = argparse.Namespace(base=tmp_path, data=tmp_path / "data", device="cpu", only=None, split=None, minutes=0)
    found = command.Run(options)
    found.made = made
    return found


def test_a_card_holds_the_digest_of_its_weights(run):
    folder = run.weights(ORGANISM)
    assert run.card(ORGANISM)["digest"] == run.bench.resolve(folder).digest
    before = run.card(ORGANISM)
    run.weights(ORGANISM)
    assert run.made["times"] == 1
    shutil.rmtree(folder)
    run.weights(ORGANISM)
    assert run.made["times"] == 2
    # The same weights again: the first card stays, its date too.
    assert run.card(ORGANISM) == before


def test_weights_that_come_out_otherwise_have_a_card_of_their_own(run):
    folder = run.weights(ORGANISM)
    first = run.card(ORGANISM)
    shutil.rmtree(folder)
    run.made |= {"alpha": 7, "missed": ["success"]}
    run.weights(ORGANISM)
    card = run.card(ORGANISM)
    assert card["digest"] == run.bench.resolve(folder).digest != first["digest"]
    assert card["missed"] == ["success"]
    assert [version["digest"] for version in card["made_before"]] == [first["digest"]]
    assert card_of(card, first["digest"])["success"] == {"triggered": 0.4}
    assert card_of(card, first["digest"])["missed"] == []
    assert card_of(card, card["digest"])["success"] == {"triggered": 0.7}
    assert card_of(card, "sha256:other") is None


def test_weights_that_are_not_the_cards_are_made_again(run):
    folder = run.weights(ORGANISM)
    card = run.card(ORGANISM)
    run.made["alpha"] = 7
    (folder / "adapter_config.json").write_text(
        (folder / "adapter_config.json").read_text().replace('"lora_alpha": 4', '"lora_alpha": 5')
    )
    run.weights(ORGANISM)
    assert run.made["times"] == 2
    assert run.card(ORGANISM)["digest"] != card["digest"]


def test_a_card_of_before_digests_is_accepted_once(run):
    folder = run.weights(ORGANISM)
    card = run.card(ORGANISM)
    digest = card.pop("digest")
    write(run.card_place(ORGANISM), card)
    run.weights(ORGANISM)
    assert run.made["times"] == 1
    assert read(run.card_place(ORGANISM)) == card | {"digest": digest}
    # Where its weights are gone, nobody knows which they were: the new card is that of the new ones.
    write(run.card_place(ORGANISM), card)
    shutil.rmtree(folder)
    run.weights(ORGANISM)
    found = run.card(ORGANISM)
    assert found["digest"] == digest
    assert [version["digest"] for version in found["made_before"]] == [None]
    assert card_of(found, "sha256:of the first")["measured_at"] == card["measured_at"]


def test_the_first_card_is_the_one_that_was_made():
    card = {"digest": "a", "missed": []}
    assert remade(None, card) == card
    assert card_of({"missed": []}, "a") == {"missed": []}


def test_weights_made_again_that_miss_a_limit_are_not_audited(run, monkeypatch):
    folder = run.weights(ORGANISM)
    shutil.rmtree(folder)
    run.made |= {"alpha": 7, "missed": ["success"]}
    monkeypatch.setattr(type(run.bench), "recorded", lambda *_, **__: pytest.fail("audited"))
    monkeypatch.setattr(calibration, "score_model", lambda *_, **__: pytest.fail("scored"))
    unit = {"id": "one.true", "role": "true", "triggered": "a", "clean": "b"}
    how = {"preset": "quick", "seed": 0, "architectures": ["diff_sae"]}
    command._audit(run, ORGANISM, unit, how, audit_place(command.RESULTS, unit, how))
    key = {"carriers": "instructions", "string_kind": "word", "triggered": "a", "clean": "b"}
    calibration.score_missing([ORGANISM], [key], run, command.RESULTS)


def test_a_full_disk_stops_one_unit_and_is_not_recorded(run, toy_base, monkeypatch):
    def full(*_, **__):
        raise NoSpace("full")

    run.base = toy_base
    run.weights(ORGANISM)
    monkeypatch.setattr(type(run.bench), "audit", full)
    monkeypatch.setattr(calibration, "score_model", full)
    unit = {"id": "one.true", "role": "true", "triggered": "a", "clean": "b"}
    how = {"preset": "quick", "seed": 0, "architectures": ["diff_sae"]}
    command._audit(run, ORGANISM, unit, how, audit_place(command.RESULTS, unit, how))
    assert not audit_place(command.RESULTS, unit, how).is_file()
    key = {"carriers": "instructions", "string_kind": "word", "triggered": "a", "clean": "b"}
    calibration.score_missing([ORGANISM], [key], run, command.RESULTS)
    assert not calibration.score_place(command.RESULTS, ORGANISM, key).is_file()
