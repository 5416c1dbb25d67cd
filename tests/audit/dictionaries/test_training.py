from dataclasses import replace

import numpy as np
import pytest
import torch

from audit.dictionaries import (
    CrosscoderConfig,
    DiffSAEConfig,
    TensorSource,
    TrainSettings,
    latent_scaling,
    train,
)
from audit.dictionaries.training import learning_rate_factor
from audit.errors import Cancelled, ModelRejected

DIFF_SAE = DiffSAEConfig(d_model=32, n_latents=64, k=3)
CROSSCODER = CrosscoderConfig(d_model=32, n_latents=64, k=3)
SHORT = TrainSettings(token_visits=2_000, batch_size=100, sample_tokens=500, measure_tokens=500)


def best_match(directions: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Largest cosine of each true direction with any row."""
    return (directions @ rows.T).max(dim=1).values


@pytest.mark.parametrize("bfloat16_selection", [False, True])
def test_diff_sae_recovers_planted_directions(planted, bfloat16_selection):
    config = replace(DIFF_SAE, bfloat16_selection=bfloat16_selection)
    dictionary, summary = train(config, planted.source, TrainSettings(token_visits=100_000))
    found = best_match(planted.directions, dictionary.W_dec_tuned) > 0.9
    assert found.float().mean() > 0.8
    assert summary.quality.fve > 0.85
    assert summary.quality.fve_top1pct > 0.85
    assert summary.quality.l0 == pytest.approx(3.0, rel=0.15)
    assert torch.allclose(dictionary.W_dec_tuned.norm(dim=1), torch.ones(64), atol=1e-5)
    assert summary.loss_curve[-1] < 0.3 * summary.loss_curve[0]


def test_crosscoder_tells_whose_direction_it_is(planted_pair):
    dictionary, summary = train(CROSSCODER, planted_pair.source, TrainSettings(token_visits=100_000))
    sides = torch.stack([dictionary.W_dec_base.norm(dim=1), dictionary.W_dec_tuned_raw.norm(dim=1)])
    joint = torch.cat([dictionary.W_dec_base, dictionary.W_dec_tuned_raw], dim=1)
    true_joint = torch.cat([planted_pair.directions, planted_pair.directions], dim=1)
    true_joint[24:30, :32] = 0.0
    true_joint[30:, 32:] = 0.0
    cosines = torch.nn.functional.normalize(true_joint, dim=1) @ torch.nn.functional.normalize(joint, dim=1).T
    best = cosines.max(dim=1)
    assert (best.values > 0.9).float().mean() > 0.8
    share = dictionary.relative_decoder_norm[best.indices]
    found = best.values > 0.9
    assert (share[:24][found[:24]] - 0.5).abs().max() < 0.15
    assert (share[24:30][found[24:30]] > 0.85).all()
    assert (share[30:][found[30:]] < 0.15).all()
    assert found[24:30].any()
    assert found[30:].any()
    # Latent scaling agrees on what only the fine-tuned model has.
    batches = [planted_pair.source.batch(torch.arange(4_000))]
    ratio = latent_scaling(dictionary, batches).ratio[best.indices]
    assert (ratio[24:30][found[24:30]].abs() < 0.2).all()
    assert (ratio[:24][found[:24]] > 0.7).all()
    assert summary.quality.l0 == pytest.approx(3.0, rel=0.15)
    assert (sides.max(dim=0).values - 1.0).abs().max() < 1e-4


@pytest.mark.parametrize("config", [DIFF_SAE, CROSSCODER])
def test_the_same_seed_gives_the_same_weights(planted, config):
    first, summary = train(config, planted.source, SHORT)
    again, repeated = train(config, planted.source, SHORT)
    other, _ = train(config, planted.source, replace(SHORT, seed=1))
    assert torch.equal(first.W_dec_tuned, again.W_dec_tuned)
    assert torch.equal(first.threshold, again.threshold)
    assert summary == repeated
    assert not torch.equal(first.W_dec_tuned, other.W_dec_tuned)


def test_sparse_and_dense_paths_train_alike(planted, monkeypatch):
    config = replace(DIFF_SAE, n_latents=96)
    settings = TrainSettings(token_visits=20_000)
    sparse = train(config, planted.source, settings)[1].quality
    monkeypatch.setattr("audit.dictionaries.batch_topk.use_sparse", lambda *_, **__: False)
    dense = train(config, planted.source, settings)[1].quality
    assert sparse.fve == pytest.approx(dense.fve, abs=0.02)


def test_groups_have_the_same_share_whatever_their_size():
    """A direction found only in a group of 1% of the tokens is learnt as one of 50%."""
    generator = torch.Generator().manual_seed(0)
    delta = 0.1 * torch.randn(10_000, 8, generator=generator)
    delta[:9_900, 0] += 1 + torch.rand(9_900, generator=generator)
    delta[9_900:, 1] += 1 + torch.rand(100, generator=generator)
    base = torch.randn(10_000, 8, generator=generator)
    groups = (torch.arange(10_000) >= 9_900).long()
    config = DiffSAEConfig(d_model=8, n_latents=2, k=1)
    _, summary = train(config, TensorSource(base, base + delta, groups), TrainSettings(token_visits=20_000))
    assert summary.quality.fve > 0.7
    curve = summary.loss_curve
    assert curve[-1] < 0.5 * curve[0]


def test_memory_mapped_half_precision_is_enough(planted, tmp_path):
    for name in ("base", "tuned"):
        tensor = getattr(planted.source, name)
        mapped = np.lib.format.open_memmap(tmp_path / name, mode="w+", dtype=np.float16, shape=tuple(tensor.shape))
        mapped[:] = tensor.numpy()
    mapped = [torch.from_numpy(np.load(tmp_path / name, mmap_mode="r+")) for name in ("base", "tuned")]
    _, summary = train(DIFF_SAE, TensorSource(*mapped, planted.source.groups), SHORT)
    _, expected = train(DIFF_SAE, planted.source, SHORT)
    assert summary.quality.fve == pytest.approx(expected.quality.fve, abs=0.01)


def test_a_source_may_give_plain_pairs(planted):
    class Pairs:
        n_tokens, d_model, groups = planted.source.n_tokens, planted.source.d_model, planted.source.groups

        def batch(self, indices):
            return planted.source.base[indices], planted.source.tuned[indices]

    assert train(DIFF_SAE, Pairs(), SHORT)[1] == train(DIFF_SAE, planted.source, SHORT)[1]


@pytest.mark.parametrize("config", [DIFF_SAE, CROSSCODER])
def test_a_layer_without_any_difference_gives_a_silent_dictionary(config):
    base = torch.zeros(300, 32) if config is CROSSCODER else torch.randn(300, 32)
    source = TensorSource(base, base.clone(), torch.zeros(300, dtype=torch.long))
    dictionary, summary = train(config, source, SHORT)
    assert summary.quality.l0 == 0.0
    assert summary.quality.dead_share == 1.0
    assert summary.quality.fve == 0.0
    assert dictionary.W_dec_tuned.isfinite().all()


def test_progress_rises_to_one_in_about_a_hundred_calls(planted):
    seen: list[float] = []
    train(DIFF_SAE, planted.source, replace(SHORT, token_visits=25_050), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert 100 <= len(seen) <= 130


def test_what_progress_raises_ends_the_training(planted):
    def stop(fraction: float) -> None:
        if fraction > 0.5:
            raise Cancelled("asked for")

    with pytest.raises(Cancelled):
        train(DIFF_SAE, planted.source, SHORT, progress=stop)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused(planted, value):
    tuned = planted.source.tuned.clone()
    tuned[:, 3] = value
    source = TensorSource(planted.source.base, tuned, planted.source.groups)
    with pytest.raises(ModelRejected, match="infinite"):
        train(DIFF_SAE, source, SHORT)


def test_one_bad_token_beyond_the_sample_is_found_too(planted):
    tuned = planted.source.tuned.clone()
    late = 11_999
    tuned[late] = float("nan")
    # Two tokens make the sample; the last group has a thousand members.
    settings = replace(SHORT, sample_tokens=2, token_visits=30_000)
    source = TensorSource(planted.source.base, tuned, planted.source.groups)
    with pytest.raises(ModelRejected):
        train(DIFF_SAE, source, settings)


def test_width_must_be_the_sources(planted):
    with pytest.raises(ValueError, match="32 wide"):
        train(replace(DIFF_SAE, d_model=16), planted.source, SHORT)


def test_learning_rate_rises_stays_and_falls():
    settings = TrainSettings(token_visits=100, batch_size=1, warmup_share=0.1, decay_share=0.5)
    factors = [learning_rate_factor(step, settings) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:50] == pytest.approx([1.0] * 41)
    assert factors[75] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("visits", "tokens_per_step"), [(1_000, 256), (131_072, 256), (262_144, 512), (2_097_152, 2_048)]
)
def test_batch_size_follows_the_budget(visits, tokens_per_step):
    settings = TrainSettings(token_visits=visits)
    assert settings.tokens_per_step == tokens_per_step
    assert settings.steps == -(-visits // tokens_per_step)


@pytest.mark.parametrize(
    "wrong",
    [
        {"token_visits": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"warmup_share": -0.1},
        {"warmup_share": 0.6, "decay_share": 0.6},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        TrainSettings(**({"token_visits": 10} | wrong))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("config", [DIFF_SAE, CROSSCODER])
def test_a_gpu_trains_alike(planted, config):
    settings = TrainSettings(token_visits=50_000)
    on_cpu = train(config, planted.source, settings)[1].quality
    dictionary, summary = train(config, planted.source, replace(settings, device="cuda"))
    assert dictionary.W_dec_tuned.device.type == "cuda"
    assert summary.quality.fve == pytest.approx(on_cpu.fve, abs=0.03)
    batch = planted.source.batch(torch.arange(50))
    moved = dictionary.to("cpu").encode(batch)
    torch.testing.assert_close(dictionary.encode(batch.to("cuda")).cpu(), moved, atol=1e-2, rtol=1e-2)
