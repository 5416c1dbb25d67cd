from dataclasses import replace

import pytest
import torch

from audit.dictionaries import Crosscoder, CrosscoderConfig, Dictionary, TokenBatch, latent_scaling
from audit.dictionaries.crosscoder import CrosscoderTrainee


def random_crosscoder(seed: int, *, d_model: int = 5, n_latents: int = 8, **changes) -> Crosscoder:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    fields = {
        "W_enc_base": normal(d_model, n_latents),
        "W_enc_tuned": normal(d_model, n_latents),
        "b_enc": normal(n_latents),
        "W_dec_base": normal(n_latents, d_model),
        "W_dec_tuned_raw": normal(n_latents, d_model),
        "b_dec_base": normal(d_model),
        "b_dec_tuned": normal(d_model),
        "threshold": normal(n_latents).abs(),
        "k": 2,
        "scale_base": 1.0,
        "scale_tuned": 1.0,
    }
    return Crosscoder(**(fields | changes))


def one_latent(*, base: list[float], tuned: list[float]) -> Crosscoder:
    """One latent that reads the first coordinate of the fine-tuned side."""
    return Crosscoder(
        W_enc_base=torch.zeros(2, 1),
        W_enc_tuned=torch.tensor([[1.0], [0.0]]),
        b_enc=torch.zeros(1),
        W_dec_base=torch.tensor([base]),
        W_dec_tuned_raw=torch.tensor([tuned]),
        b_dec_base=torch.zeros(2),
        b_dec_tuned=torch.zeros(2),
        threshold=torch.zeros(1),
        k=1,
        scale_base=1.0,
        scale_tuned=1.0,
    )


def test_encode_and_decode_worked_by_hand(assert_close):
    crosscoder = replace(
        one_latent(base=[0.5, 0.0], tuned=[0.0, 1.0]),
        W_enc_base=torch.tensor([[0.0], [1.0]]),
        b_dec_base=torch.tensor([0.0, 1.0]),
        threshold=torch.tensor([2.0]),
    )
    batch = TokenBatch(torch.tensor([[0.0, 3.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    latents = crosscoder.encode(batch)
    assert_close(latents, torch.tensor([[3.0], [0.0]]))
    assert_close(crosscoder.decode(latents), torch.tensor([[1.5, 1.0, 0.0, 3.0], [0.0, 1.0, 0.0, 0.0]]))
    assert_close(crosscoder.target(batch), torch.tensor([[0.0, 3.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]]))
    assert isinstance(crosscoder, Dictionary)


def test_per_token_top_k_keeps_the_k_largest_positive(assert_close):
    crosscoder = Crosscoder(
        W_enc_base=torch.zeros(3, 3),
        W_enc_tuned=torch.eye(3),
        b_enc=torch.zeros(3),
        W_dec_base=torch.eye(3),
        W_dec_tuned_raw=torch.eye(3),
        b_dec_base=torch.zeros(3),
        b_dec_tuned=torch.zeros(3),
        threshold=torch.zeros(3),
        k=2,
        scale_base=1.0,
        scale_tuned=1.0,
        per_token_top_k=True,
    )
    tuned = torch.tensor([[3.0, 1.0, 2.0], [-1.0, 5.0, -2.0]])
    assert_close(crosscoder.encode(TokenBatch(torch.zeros(2, 3), tuned)), torch.tensor([[3.0, 0, 2.0], [0, 5.0, 0]]))


def test_relative_decoder_norm_in_units_of_each_side(assert_close):
    crosscoder = replace(
        random_crosscoder(0, d_model=2, n_latents=4),
        W_dec_base=torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]),
        W_dec_tuned_raw=torch.tensor([[0.0, 5.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
    )
    assert_close(crosscoder.relative_decoder_norm, torch.tensor([0.5, 1.0, 0.0, 0.5]))
    # A fine-tuned side three times as long, with a scale a third as large: the same share.
    longer = replace(crosscoder, W_dec_tuned_raw=3 * crosscoder.W_dec_tuned_raw, scale_tuned=1 / 3)
    assert_close(longer.relative_decoder_norm, crosscoder.relative_decoder_norm)
    assert_close(crosscoder.W_dec_tuned.norm(dim=1), torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_latent_scaling_agrees_with_least_squares(assert_close):
    crosscoder = random_crosscoder(4, threshold=torch.zeros(8), scale_base=0.5, scale_tuned=2.0)
    generator = torch.Generator().manual_seed(1)
    batches = [TokenBatch(*torch.randn(2, 30, 5, generator=generator).unbind(0)) for _ in range(2)]
    scaling = latent_scaling(crosscoder, batches)

    whole = TokenBatch(torch.cat([batch.base for batch in batches]), torch.cat([batch.tuned for batch in batches]))
    latents = crosscoder.encode(whole)
    base_error, tuned_error = (crosscoder.target(whole) - crosscoder.decode(latents)).split(5, dim=1)
    sides = ((base_error, crosscoder.W_dec_base, 0.5), (tuned_error, crosscoder.W_dec_tuned_raw, 2.0))
    for (error, decoder, scale), actual in zip(sides, scaling, strict=True):
        for latent in range(8):
            activation = latents[:, latent : latent + 1]
            design = (activation * crosscoder.W_dec_tuned_raw[latent] * 2.0).reshape(-1, 1)
            wanted = ((error + activation * decoder[latent]) * scale).reshape(-1, 1)
            assert_close(actual[latent], torch.linalg.lstsq(design, wanted).solution[0, 0], atol=1e-3, rtol=1e-3)


def test_latent_scaling_sees_a_direction_that_the_base_decoder_lost():
    """Both models hold the direction equally, but the base decoder was shrunk to nothing: β tells, the norm doesn't."""
    generator = torch.Generator().manual_seed(0)
    strengths = torch.rand(100, 1, generator=generator) + 0.5
    activations = strengths * torch.tensor([[1.0, 0.0]])
    crosscoder = one_latent(base=[0.0, 0.0], tuned=[1.0, 0.0])
    assert crosscoder.relative_decoder_norm.item() == 1.0
    shared = latent_scaling(crosscoder, [TokenBatch(activations, activations)])
    assert shared.ratio.item() == pytest.approx(1.0, abs=1e-5)
    exclusive = latent_scaling(crosscoder, [TokenBatch(torch.zeros(100, 2), activations)])
    assert exclusive.ratio.item() == pytest.approx(0.0, abs=1e-5)


def test_latent_scaling_of_a_silent_latent_is_unknown():
    crosscoder = one_latent(base=[1.0, 0.0], tuned=[1.0, 0.0])
    scaling = latent_scaling(crosscoder, [TokenBatch(torch.zeros(3, 2), -torch.ones(3, 2))])
    assert scaling.ratio.isnan().all()


def test_folding_scales_and_norms_changes_nothing_but_units(assert_close):
    """The finished dictionary against the trainee's own computation, sides of very different length."""
    generator = torch.Generator().manual_seed(0)
    base = 2.0 * torch.randn(300, 6, generator=generator)
    batch = TokenBatch(base, 50.0 * torch.randn(300, 6, generator=generator))
    config = CrosscoderConfig(d_model=6, n_latents=16, k=3)
    trainee = CrosscoderTrainee(config, batch, generator=generator, token_visits=300)
    trainee.core.W_dec.data *= torch.rand(16, 1, generator=generator) + 0.5
    trainee.calibrate(batch)
    inputs = torch.cat([batch.base * trainee.scale_base, batch.tuned * trainee.scale_tuned], dim=1)
    core = trainee.core
    preactivations = (inputs - core.b_dec) @ core.W_enc.T + core.b_enc
    norms = core.W_dec[:, :6].norm(dim=1) + core.W_dec[:, 6:].norm(dim=1)
    latents = torch.where(preactivations * norms > core.threshold, preactivations, 0.0)
    decoded = (latents @ core.W_dec + core.b_dec).detach()
    expected = torch.cat([decoded[:, :6] / trainee.scale_base, decoded[:, 6:] / trainee.scale_tuned], dim=1)

    crosscoder = trainee.finish()
    actual = crosscoder.encode(batch)
    assert torch.equal(actual > 0, latents > 0)
    assert_close(crosscoder.decode(actual), expected, atol=1e-3)
    longest = torch.maximum(crosscoder.W_dec_base.norm(dim=1), crosscoder.W_dec_tuned_raw.norm(dim=1))
    assert_close(longest, torch.ones(16))
    assert_close(crosscoder.relative_decoder_norm, (core.W_dec[:, 6:].norm(dim=1) / norms).detach())


def test_the_choice_of_latents_ignores_how_a_latent_is_split_between_encoder_and_decoder():
    generator = torch.Generator().manual_seed(0)
    batch = TokenBatch(*torch.randn(2, 100, 6, generator=generator).unbind(0))
    trainee = CrosscoderTrainee(
        CrosscoderConfig(d_model=6, n_latents=16, k=2), batch, generator=generator, token_visits=100
    )
    loss = trainee.loss(batch).item()
    factor = torch.rand(16, 1, generator=generator) + 0.5
    trainee.core.W_dec.data *= factor
    trainee.core.W_enc.data /= factor
    assert trainee.loss(batch).item() == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"W_enc_base": torch.zeros(8, 5)},
        {"W_dec_tuned_raw": torch.zeros(8, 4)},
        {"b_dec_tuned": torch.zeros(8)},
        {"threshold": torch.full((8,), -1.0)},
        {"scale_base": 0.0},
        {"k": 9},
    ],
)
def test_inconsistent_weights_are_refused(wrong):
    with pytest.raises(ValueError, match=r"shape|negative|positive|between"):
        random_crosscoder(0, **wrong)
