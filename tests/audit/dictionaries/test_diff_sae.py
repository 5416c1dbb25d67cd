from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from audit.dictionaries import Dictionary, DiffSAE, DiffSAEConfig, TokenBatch
from audit.dictionaries.diff_sae import DiffSAETrainee


def random_diff_sae(seed: int, *, d_model: int = 6, n_latents: int = 10, **changes) -> DiffSAE:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    fields = {
        "W_enc": normal(d_model, n_latents),
        "b_enc": normal(n_latents),
        "W_dec": F.normalize(normal(n_latents, d_model), dim=1),
        "b_dec": normal(d_model),
        "threshold": normal(n_latents).abs(),
        "k": 2,
        "input_scale": 0.5,
    }
    return DiffSAE(**(fields | changes))


def test_encode_and_decode_worked_by_hand(assert_close):
    dictionary = DiffSAE(
        W_enc=torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]]),
        b_enc=torch.tensor([0.0, -1.0, 0.0]),
        W_dec=torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]),
        b_dec=torch.tensor([1.0, 0.0]),
        threshold=torch.tensor([0.5, 0.5, 3.0]),
        k=1,
        input_scale=1.0,
    )
    batch = TokenBatch(base=torch.tensor([[10.0, 10.0]]), tuned=torch.tensor([[13.0, 11.0]]))
    # Δ = (3, 1); less b_dec: (2, 1); preactivations (2, 1, 2); the third stays under its threshold.
    latents = dictionary.encode(batch)
    assert_close(latents, torch.tensor([[2.0, 1.0, 0.0]]))
    assert_close(dictionary.decode(latents), torch.tensor([[3.0, 1.0]]))
    assert_close(dictionary.target(batch), torch.tensor([[3.0, 1.0]]))
    assert isinstance(dictionary, Dictionary)


def test_an_activation_at_the_threshold_is_silent():
    dictionary = DiffSAE(
        W_enc=torch.eye(1), b_enc=torch.zeros(1), W_dec=torch.eye(1), b_dec=torch.zeros(1),
        threshold=torch.ones(1), k=1, input_scale=1.0,
    )  # fmt: skip
    latents = dictionary.encode(TokenBatch(torch.zeros(2, 1), torch.tensor([[1.0], [1.5]])))
    assert latents.tolist() == [[0.0], [1.5]]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 12), st.data())
def test_a_token_is_encoded_the_same_whatever_its_batch(seed, tokens, data):
    dictionary = random_diff_sae(seed)
    base, tuned = torch.randn(2, tokens, 6, generator=torch.Generator().manual_seed(seed)).unbind(0)
    whole = dictionary.encode(TokenBatch(base, tuned))
    token = data.draw(st.integers(0, tokens - 1))
    alone = dictionary.encode(TokenBatch(base[token : token + 1], tuned[token : token + 1]))
    # Only a preactivation within rounding of the threshold may tip over.
    settled = ((TokenBatch(base, tuned).delta - dictionary.b_dec) @ dictionary.W_enc + dictionary.b_enc)[token]
    settled = (settled - dictionary.threshold).abs() > 1e-4
    torch.testing.assert_close(alone[0][settled], whole[token][settled], atol=1e-5, rtol=1e-4)


def test_low_precision_is_widened_before_the_subtraction():
    base = torch.tensor([[0.00390625]], dtype=torch.bfloat16)
    tuned = torch.tensor([[1.0078125]], dtype=torch.bfloat16)
    batch = TokenBatch(base, tuned)
    assert batch.delta.dtype == torch.float32
    assert batch.delta.item() == 1.00390625  # in bfloat16 it would be 1.0


def test_folding_the_scale_changes_nothing_but_units(assert_close):
    """The dictionary in raw units against the trainee's own computation in scaled ones."""
    generator = torch.Generator().manual_seed(0)
    base, tuned = 30.0 * torch.randn(2, 200, 8, generator=generator)
    batch = TokenBatch(base, tuned)
    trainee = DiffSAETrainee(DiffSAEConfig(d_model=8, n_latents=20, k=3), batch, generator=generator, token_visits=200)
    trainee.core.b_enc.data = 0.1 * torch.randn(20, generator=generator)
    trainee.calibrate(batch)
    scaled = batch.delta * trainee.scale
    assert scaled.norm(dim=1).mean().item() == pytest.approx(1.0)
    core = trainee.core
    preactivations = (scaled - core.b_dec) @ core.W_enc.T + core.b_enc
    latents = torch.where(preactivations > core.threshold, preactivations, 0.0).detach()

    dictionary = trainee.finish()
    assert_close(dictionary.encode(batch), latents / trainee.scale, atol=1e-3)
    assert_close(
        dictionary.decode(dictionary.encode(batch)),
        ((latents @ core.W_dec + core.b_dec) / trainee.scale).detach(),
        atol=1e-3,
    )
    assert dictionary.input_scale == trainee.scale
    assert_close(dictionary.W_dec.norm(dim=1), torch.ones(20))


@pytest.mark.parametrize(
    "wrong",
    [
        {"W_enc": torch.zeros(10, 6)},
        {"b_enc": torch.zeros(9)},
        {"b_dec": torch.zeros(10)},
        {"threshold": torch.zeros(6)},
        {"threshold": torch.full((10,), -1.0)},
        {"W_dec": torch.ones(10, 6)},
    ],
)
def test_inconsistent_weights_are_refused(wrong):
    with pytest.raises(ValueError, match=r"shape|negative|unit norm"):
        replace(random_diff_sae(0), **wrong)
