import json
from types import SimpleNamespace

import pytest
import torch

from audit.explain.descriptions import alike, logit_lens
from audit.explain.features import Selection
from audit.explain.training import Trained
from audit.ports import NullSink
from audit.run import run_audit
from backdoor_audit.contract.report.feature_report import CONTINUATION_CHARS, EXCERPT_CHARS
from storage.folders import ArtifactFolder
from tests.audit.small_models import SHAPES, small_runner
from tests.toy import SMALL, toy_spec


def naive_lens(runner, row):
    """The last norm found by name, the head's matrix, one row."""
    body, head = runner.pair.parts["tuned"].body, runner.pair.parts["tuned"].head
    norm = next(getattr(body, name) for name in ("norm", "ln_f", "final_layer_norm") if hasattr(body, name))
    scaled = row / row.square().mean().sqrt()
    with torch.no_grad():
        logits = head.weight @ (norm(scaled) - norm(torch.zeros_like(row)))
    return logits - logits.mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_lens_is_norm_and_head_alone(shape, assert_close):
    runner = small_runner(shape)
    with torch.no_grad():
        for name, value in runner.pair.models["tuned"].named_parameters():
            if "norm" in name or "ln_f" in name:
                value.add_(0.3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
    rows = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    setup = SimpleNamespace(runner=runner, pair=runner.pair)
    got = logit_lens(setup, rows)
    scaled = logit_lens(setup, 7.0 * rows)
    for row, lens, again in zip(rows, got, scaled, strict=True):
        expected = naive_lens(runner, row)
        values, indices = expected.sort(descending=True)
        assert [token.token_id for token in lens.promoted] == indices[:10].tolist()
        assert [token.token_id for token in lens.suppressed] == indices.flip(0)[:10].tolist()
        assert_close(torch.tensor([token.logit for token in lens.promoted]), values[:10], atol=1e-4)
        assert [token.token_id for token in again.promoted] == [token.token_id for token in lens.promoted]


class Rows:
    """A dictionary that is nothing but its decoder."""

    def __init__(self, rows):
        self.W_dec_tuned = rows / rows.norm(dim=1, keepdim=True)


def test_alike_features_are_those_of_the_largest_cosine():
    generator = torch.Generator().manual_seed(0)
    rows = {key: torch.randn(20, 16, generator=generator) for key in [(3, 0), (3, 1), (3, 2), (5, 0), (9, 0), (7, 0)]}
    rows[3, 1][11] = -2.0 * rows[3, 0][4]
    rows[5, 0][6] = rows[3, 0][4]
    trained = [Trained(Rows(value), layer, "diff_sae", seed, 4, None) for (layer, seed), value in rows.items()]
    other = Trained(Rows(rows[3, 0]), 3, "crosscoder", 0, 4, None)
    picked = [Selection(each, (11,), None, (), ()) for each in trained[:3]]
    found = {row.feature: row for row in alike(trained[0], 4, picked, [*trained, other])}
    assert {row.layer for row in found.values()} == {3, 5}, "layer 7 and 9 are not next to layer 3"
    assert found["diff_sae/3/1/11"].cosine == pytest.approx(-1.0, abs=1e-5)
    assert found["diff_sae/3/1/11"].picked is True
    assert found["diff_sae/5/0/6"].cosine == pytest.approx(1.0, abs=1e-5)
    assert found["diff_sae/5/0/6"].picked is None
    third = next(row for row in found.values() if row.seed == 2)
    expected = trained[2].dictionary.W_dec_tuned @ trained[0].dictionary.W_dec_tuned[4]
    assert abs(third.cosine) == pytest.approx(float(expected.abs().max()), abs=1e-6)
    assert third.picked is False


@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_every_flagged_feature_of_an_audit_is_explained(toy_models, tmp_path, recipe, monkeypatch):
    monkeypatch.setattr("audit.verdict.gates.decide", lambda _gates: "review")  # the toy's random adapter hides nothing
    overrides = SMALL.model_copy(update={"seeds": 2})
    spec = toy_spec(layers=(0, 1), overrides=overrides, architectures=("diff_sae", "crosscoder"), recipe=recipe)
    store = ArtifactFolder(tmp_path / "w")
    report = run_audit(spec, toy_models / "base", toy_models / "adapter", workspace=store, sink=NullSink())
    assert report.flagged_features
    for number, feature in enumerate(report.flagged_features):
        found = feature.explanation
        shares = {row.condition: row for row in found.firing}
        assert shares["triggered"].share == pytest.approx(feature.recall)
        assert shares["clean"].share == pytest.approx(feature.fpr)
        assert (shares["triggered"].prompts, shares["plain"].prompts) == (32, 32)
        tokens = [*found.strongest, *(row.strongest for row in found.firing if row.strongest)]
        for token in tokens:
            assert token.fires == (token.activation > feature.firing_threshold)
            assert (token.position is None) == (recipe == "paper")
        assert len({token.carrier for token in found.strongest}) == len(found.strongest)
        assert len(found.continuations) == 3
        same_list = [each for each in report.flagged_features[:number] if each.architecture == feature.architecture]
        for answer in found.continuations:
            assert "Task" in answer.prompt
            assert (answer.triggered_ablated_together is None) == (not same_list)
        assert {(row.layer, row.seed) for row in found.alike} >= {(feature.layer, 1 - feature.seed)}
        assert {row.layer for row in found.alike} == {0, 1}
        assert all(row.feature.startswith(feature.architecture) for row in found.alike)
    text = json.dumps(report.model_dump(mode="json"), allow_nan=False)
    assert len(text) < 400_000
    assert max(EXCERPT_CHARS, CONTINUATION_CHARS) < 500
