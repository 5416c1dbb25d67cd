import json

import pytest
import torch

from audit.dictionaries.base import TokenBatch
from audit.dictionaries.diff_sae import DiffSAEConfig
from audit.dictionaries.sources import TensorSource
from audit.dictionaries.training import TrainSettings, train
from audit.explain.training import training_source
from benchmarks.detection.make_split import SPLIT
from benchmarks.dictionaries import __main__ as dictionaries
from benchmarks.dictionaries.table import page
from benchmarks.dictionaries.variants import (
    DifferenceCrosscoderConfig,
    Variant,
    centres,
    out_of_metric,
    source_of,
    stretched,
)
from storage.folders import ArtifactFolder
from tests.toy import CLEAN, TRIGGERED, toy_spec

SPEC = toy_spec(trigger={"triggered": TRIGGERED, "clean": CLEAN, "template": "Say hello.\n{trigger}\n{prompt}"})
SETTINGS = TrainSettings(token_visits=4096, batch_size=256)


def pairs(tokens=400, d_model=12):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(tokens, d_model, generator=generator)
    return TensorSource(base, base + torch.randn(tokens, d_model, generator=generator), torch.zeros(tokens))


def test_a_dictionary_leaves_its_metric_as_what_it_was():
    """Encoding plain differences gives the activations of transformed ones, decoding the transformed back."""
    source = pairs()
    raw = torch.randn(12, 12, generator=torch.Generator().manual_seed(1))
    into = raw @ raw.T + 0.5 * torch.eye(12)
    back = torch.linalg.inv(into)
    moved = TensorSource(torch.zeros_like(source.base), (source.tuned - source.base) @ into, source.groups)
    inner, _ = train(DiffSAEConfig(d_model=12, n_latents=24, k=4), moved, SETTINGS)
    outer = out_of_metric(inner, into, back)
    batch, rows = TokenBatch(source.base, source.tuned), torch.arange(source.n_tokens)
    norms = (inner.W_dec @ back).norm(dim=1)
    torch.testing.assert_close(outer.encode(batch), inner.encode(moved.batch(rows)) * norms, atol=1e-3, rtol=1e-3)
    decoded = inner.decode(inner.encode(moved.batch(rows))) @ back
    torch.testing.assert_close(outer.decode(outer.encode(batch)), decoded, atol=1e-3, rtol=1e-3)


def test_stretched_residuals_pay_for_the_difference():
    residual = torch.randn(50, 24, generator=torch.Generator().manual_seed(0))
    weight = 3.0
    factor = (1 + 2 * weight) ** 0.5
    base, tuned = residual.chunk(2, dim=1)
    expected = residual.square().sum(1) + weight * (tuned - base).square().sum(1)
    torch.testing.assert_close(stretched(residual, factor).square().sum(1), expected)
    torch.testing.assert_close(stretched(stretched(residual, factor), 1 / factor), residual)


def test_the_difference_loss_explains_more_of_the_difference():
    source = pairs(2000)
    source = TensorSource(source.base, source.base + (source.tuned - source.base) * 0.5, source.groups)
    missed = []
    for weight in (0.0, 100.0):
        config = DifferenceCrosscoderConfig(d_model=12, n_latents=24, k=6, delta_weight=weight)
        crosscoder, _ = train(config, source, TrainSettings(token_visits=40_000, batch_size=256))
        batch = source.batch(torch.arange(source.n_tokens))
        latents = crosscoder.encode(batch)
        assert 2 < float((latents > 0).sum(1).float().mean()) < 12
        base, tuned = crosscoder.decode(latents).chunk(2, dim=1)
        missed.append(float((batch.delta - (tuned - base)).square().sum() / batch.delta.square().sum()))
    assert missed[1] < 0.8 * missed[0]


@pytest.fixture(scope="module")
def scene(toy_models, tmp_path_factory):
    store = ArtifactFolder(tmp_path_factory.mktemp("scene") / "w")
    subject = dictionaries.Subject("adapter", toy_models / "adapter", SPEC)
    return dictionaries.open_scenes(toy_models / "base", subject, store, ())[0]


def test_centres_are_means_over_the_strings_from_the_prompts_end(scene):
    extraction, plain = scene.extraction, training_source(scene.extraction, scene.layer)
    spans = [extraction.span(condition, "a", scene.layer) for condition in ("triggered", "clean", "plain")]
    spans += [extraction.decoy_tokens(index).span("a", scene.layer) for index in range(len(extraction.decoys))]
    got = centres(scene, plain).split([len(span.base) for span in spans])
    for carrier in (0, 3):
        own = [(span.tuned - span.base)[span.carrier == carrier] for span in spans]
        for back in (1, 4, max(map(len, own))):
            there = [rows[-back] for rows in own if len(rows) >= back]
            for span, means, rows in zip(spans, got, own, strict=True):
                if len(rows) >= back:
                    torch.testing.assert_close(means[span.carrier == carrier][-back], torch.stack(there).mean(0))


def test_all_tokens_are_those_of_every_prompt_but_the_first(scene):
    extraction = scene.extraction
    source = source_of(scene, Variant(inputs="all"))
    for group, condition in enumerate(("triggered", "clean")):
        run = extraction.tuned[condition, "a"]
        rows = [
            row
            for index, sequence in enumerate(run.layout.sequences)
            for row in run.layout.rows(index)[1 : sequence.prompt_length]
        ]
        expected = run.hidden[scene.layer][rows]
        ours = source.tuned[source.groups == group]
        assert ours.shape == expected.shape
        torch.testing.assert_close(ours.sum(0), expected.sum(0), atol=1e-3, rtol=1e-4)


def test_every_variant_is_measured_once_and_a_stopped_run_goes_on(scene, toy_models, tmp_path, monkeypatch):
    monkeypatch.setattr(dictionaries, "FOLDER", tmp_path / "results")
    names = list(dictionaries.VARIANTS)
    subject = dictionaries.Subject("adapter", toy_models / "adapter", SPEC)
    arguments = (toy_models / "base", subject, tmp_path / "work", ())
    dictionaries.run(*arguments, names[:2], 1)
    trained = []
    original = dictionaries.train_variant
    monkeypatch.setattr(dictionaries, "train_variant", lambda *args: trained.append(args[1:]) or original(*args))
    small = {name: variant for name, variant in dictionaries.VARIANTS.items() if variant.subspace != 64}
    dictionaries.run(*arguments, list(small), 1)
    dictionaries.run(*arguments, names[:1], 2)
    assert len(trained) == len(small) - 2 + 1
    written = json.loads((tmp_path / "results" / "adapter.json").read_text())
    assert {row["variant"] for row in written["summary"]} == set(small)
    first = written["summary"][0]
    assert first["seeds"] == 2
    assert 0 <= first["overlap"] <= 1
    assert all(row["overlap"] is None for row in written["summary"][1:])
    dictionaries.write_table(())
    table = (tmp_path / "results" / "table.md").read_text()
    assert all(f"| {name} | 1 | " in table for name in small)
    assert f"| {names[0]} | {first['share']:.2f} |" in table


def test_the_development_backdoors_are_those_within_their_limits(tmp_path):
    split = json.loads(SPLIT.read_text(encoding="utf-8"))
    planned = [each["id"] for each in split["backdoored"] if each["part"] == "development"]
    for name in planned:
        (tmp_path / name).mkdir()
    found = dictionaries.development(tmp_path, split, dictionaries.DETECTION)
    assert [subject.name for subject in found] == [name for name in planned if name != "entity.brand"]
    for subject in found:
        own = next(each for each in split["backdoored"] if each["id"] == subject.name)["strings"]
        assert (subject.spec.trigger.triggered, subject.spec.trigger.clean) == (own["triggered"], own["clean"])
        assert subject.spec.preset == "quick"
    (tmp_path / planned[0]).rmdir()
    with pytest.raises(FileNotFoundError, match=r"benchmarks\.detection --train"):
        dictionaries.development(tmp_path, split, dictionaries.DETECTION)


def test_the_table_counts_what_reaches_the_goal_and_leaves_other_versions_out():
    def row(variant, share, version="2", overlap=None, seeds=1):
        rest = {"recovered_first": share / 2, "fve": 0.5, "dead_share": 0.25, "training_seconds": 3.0}
        return {
            "variant": variant, "layer": 13, "method_version": version, "seeds": seeds, "share": share,
            "overlap": overlap, **rest,
        }  # fmt: skip

    known = {
        "a": [row("plain", 0.9, overlap=0.3, seeds=3), row("wide", 0.1)],
        "b": [row("plain", 0.4, overlap=0.5, seeds=2)],
        "old": [row("plain", 0.0, version="1")],
    }
    text = page(known, ("wide", "plain", "never"), "2")
    assert "| plain | 2 | 1 of 2 | 0.65 | 0.40 | 0.33 | 0.50 | 0.25 | 0.40 | 2 | 3 |" in text
    assert "| wide | 1 | 0 of 1 | 0.10 | 0.10 | 0.05 | 0.50 | 0.25 | one seed | 1 | 3 |" in text
    assert "| wide | 0.10 | not run |" in text
    assert "old" not in text
    assert "never" not in text
