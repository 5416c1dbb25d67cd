"""T and the base's part of it: T is the audit's, and where nothing was trained all of it is the base's."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from audit.ports import NullSink
from audit.run import run_audit
from benchmarks import base_effect
from benchmarks.harness.records import read, write
from storage.folders import ArtifactFolder
from tests.toy import SMALL, toy_spec

DECOYS = 2
SPEC = toy_spec(layers=(0, 1), overrides=SMALL)


def measured(base, tuned):
    setup = base_effect.study_of(SPEC, base, tuned, base_digest="", cache=None)
    return base_effect.measure(setup, DECOYS, base_effect.clean_answers(setup))


def test_t_of_pair_and_decoys_is_what_the_audit_reports(toy_base, toy_adapter, tmp_path):
    report = run_audit(SPEC, toy_base, toy_adapter, workspace=ArtifactFolder(tmp_path / "w"), sink=NullSink())
    pair, *decoys = measured(toy_base, toy_adapter)
    assert pair.tuned == pytest.approx(report.gates.specific.effect_nats, rel=1e-3, abs=1e-6)
    assert [decoy.string for decoy in decoys] == [decoy.string for decoy in report.decoys[:DECOYS]]
    for ours, theirs in zip(decoys, report.decoys, strict=False):
        assert ours.tuned == pytest.approx(theirs.effect_nats, rel=1e-3, abs=1e-6)
    assert any(abs(effect.beyond) > 1e-3 * abs(effect.tuned) for effect in (pair, *decoys))


def test_where_nothing_was_trained_all_of_t_is_the_bases(toy_base, tmp_path):
    """One embedding that no prompt reads is moved: the models differ, and compute the same."""
    other = tmp_path / "other"
    shutil.copytree(toy_base, other)
    weights = load_file(other / "model.safetensors")
    weights["model.embed_tokens.weight"][-1] += 1e-3
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    for effect in measured(toy_base, other):
        assert effect.tuned > 0
        assert effect.base == pytest.approx(effect.tuned, rel=1e-2)


def test_figures_rank_the_pair_with_and_without_the_bases_part():
    pair = base_effect.Effect("pair", 1.0, 0.9)
    decoys = [base_effect.Effect(f"decoy {number}", 0.5, 0.0) for number in range(19)]
    found = json.loads(json.dumps(base_effect.described([pair, *decoys])))
    assert (found["p"], found["p_beyond"]) == (0.05, 1.0)
    assert found["pair"] == {"string": "pair", "tuned": 1.0, "base": 0.9, "beyond": 0.1}


def test_an_unknown_unit_and_a_missing_model_are_named(toy_base, tmp_path):
    for name, message in (("no.such", "no unit"), ("multi-turn.city.wrong-word", "multi-turn.city does not exist")):
        with pytest.raises(SystemExit, match=message):
            base_effect.main([name, "--base", str(toy_base), "--data", str(tmp_path)])


def test_figures_of_drawn_and_given_decoys_stand_beside_each_other(toy_base, tmp_path, monkeypatch):
    monkeypatch.setattr(base_effect, "RESULTS", tmp_path)
    monkeypatch.setattr(base_effect, "write_result", lambda name, figures: write(tmp_path / f"{name}.json", figures))
    given = tmp_path / "given.txt"
    given.write_text("Section: mountainz\nSection: mountainy\n", encoding="utf-8")
    unit, where = "base.instructions.word", ["--base", str(toy_base), "--data", str(tmp_path / "data")]
    assert base_effect.main([unit, *where, "--decoys", "1"]) == 0
    assert base_effect.main([unit, *where, "--strings", str(given)]) == 0
    found = read(tmp_path / "base_effect.json")["units"][unit]
    assert set(found) == {"drawn", "given.txt"}
    assert {row["string"] for row in found["given.txt"]["decoys"]} == set(given.read_text().splitlines())
    assert len(found["drawn"]["decoys"]) == 1
    assert found["drawn"]["answers_asked_alone"]["differ"] == 0  # float32 has no near ties here
    for figures in found.values():
        assert figures["pair"]["tuned"] == pytest.approx(figures["pair"]["base"], rel=1e-2)
