import pytest
import torch
from torch.nn import functional as F

from audit.dictionaries import PaperCrosscoderConfig, PaperDiffSAEConfig, TokenBatch, TrainSettings, train
from audit.dictionaries.paper import PaperCrosscoderTrainee, PaperDiffSAETrainee


@pytest.fixture
def batch() -> TokenBatch:
    generator = torch.Generator().manual_seed(0)
    return TokenBatch(*torch.randn(2, 40, 6, generator=generator).unbind(0))


def diff_sae_trainee(**config) -> PaperDiffSAETrainee:
    settings = PaperDiffSAEConfig(d_model=6, n_latents=24, k=4, **config)
    trainee = PaperDiffSAETrainee(settings, generator=torch.Generator().manual_seed(0), device=torch.device("cpu"))
    trainee.b_enc.data = 0.3 * torch.randn(24, generator=torch.Generator().manual_seed(1))
    trainee.b_dec.data = torch.randn(6, generator=torch.Generator().manual_seed(2))
    return trainee


def test_diff_sae_loss_is_error_plus_l1(batch):
    trainee = diff_sae_trainee(l1_coefficient=0.1)
    loss = trainee.loss(batch).item()
    delta = batch.tuned - batch.base
    latents = (delta @ trainee.W.T + trainee.b_enc).relu()
    expected = F.mse_loss(latents @ trainee.W + trainee.b_dec, delta) + 0.1 * latents.mean()
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_ghost_term_pulls_dead_latents_towards_the_residual(batch):
    with_ghosts, without = diff_sae_trainee(dead_after_steps=3), diff_sae_trainee(ghost_coefficient=0.0)
    for trainee in (with_ghosts, without):
        trainee.b_enc.data[5] = -100.0
        trainee.silent_steps[5] = 4
        trainee.loss(batch).backward()
    assert not without.W.grad[5].any()
    delta = batch.tuned - batch.base
    latents = (delta @ with_ghosts.W.T + with_ghosts.b_enc).relu()
    residual = (delta - latents @ with_ghosts.W - with_ghosts.b_dec).detach()
    direction = (residual * (residual @ with_ghosts.W[5] > 0).unsqueeze(1)).mean(dim=0)
    torch.testing.assert_close(with_ghosts.W.grad[5], -0.1 * direction.detach(), atol=1e-6, rtol=1e-4)


def test_finished_diff_sae_is_the_same_function(batch, assert_close):
    trainee = diff_sae_trainee()
    delta = batch.tuned - batch.base
    latents = (delta @ trainee.W.T + trainee.b_enc).relu().detach()
    dictionary = trainee.finish()
    assert dictionary.recipe == "paper"
    norms = trainee.W.detach().norm(dim=1)
    assert_close(dictionary.encode(batch), latents * norms, atol=1e-4)
    assert_close(dictionary.decode(dictionary.encode(batch)), (latents @ trainee.W + trainee.b_dec).detach(), atol=1e-4)


def test_finished_crosscoder_is_the_same_function(batch, assert_close):
    config = PaperCrosscoderConfig(d_model=6, n_latents=24, k=4)
    trainee = PaperCrosscoderTrainee(config, generator=torch.Generator().manual_seed(0), device=torch.device("cpu"))
    trainee.b_dec.data = torch.randn(12, generator=torch.Generator().manual_seed(2))
    pair = torch.cat([batch.base, batch.tuned], dim=1)
    positive = (pair @ trainee.W.T + trainee.b_enc).relu().detach()
    kth = positive.sort(dim=1, descending=True).values[:, 3:4]
    latents = torch.where(positive >= kth, positive, 0.0)
    dictionary = trainee.finish()
    assert_close(dictionary.encode(batch), latents, atol=1e-4)
    reconstruction = (latents @ trainee.W + trainee.b_dec).detach()
    assert_close(dictionary.decode(latents), reconstruction, atol=1e-4)
    expected = F.mse_loss(reconstruction, pair) + 1e-4 * latents.mean()
    assert trainee.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("config", [PaperDiffSAEConfig, PaperCrosscoderConfig])
def test_paper_mode_goes_through_the_same_loop(config, planted):
    settings = TrainSettings(token_visits=40_000, learning_rate=1e-3)
    dictionary, summary = train(config(d_model=32, n_latents=256, k=8), planted.source, settings)
    assert dictionary.recipe == "paper"
    assert summary.loss_curve[-1] < 0.7 * summary.loss_curve[0]
    assert summary.quality.l0 > 0.0


def test_impossible_configurations_are_refused():
    with pytest.raises(ValueError, match="must"):
        PaperDiffSAEConfig(d_model=4, n_latents=8, k=9)
    with pytest.raises(ValueError, match="must"):
        PaperCrosscoderConfig(d_model=4, n_latents=8, k=2, l1_coefficient=-1.0)
