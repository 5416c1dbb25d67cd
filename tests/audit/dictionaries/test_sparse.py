import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.dictionaries.sparse import (
    SparsePattern,
    batch_topk_threshold,
    dense_autoencode,
    sparse_autoencode,
    use_sparse,
)


def naive_batch_topk(scores: torch.Tensor, k: int) -> torch.Tensor:
    """The tokens · k largest positive scores of the batch, found by sorting every one of them."""
    flat = [(float(score), position) for position, score in enumerate(scores.flatten()) if score > 0]
    chosen = sorted(flat, reverse=True)[: scores.shape[0] * k]
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[[position for _, position in chosen]] = True
    return mask.view_as(scores)


def test_threshold_of_a_batch_worked_by_hand():
    scores = torch.tensor([[5.0, 1.0, -2.0], [0.5, 4.0, 3.0]])
    # Two tokens, k = 2: the four largest of the batch, wherever they stand.
    assert batch_topk_threshold(scores, 2) == 1.0
    assert batch_topk_threshold(scores, 1) == 4.0


def test_scores_that_are_not_positive_are_never_active():
    scores = torch.tensor([[2.0, -1.0], [0.0, -3.0]])
    threshold = batch_topk_threshold(scores, 2)
    assert threshold > 0.0
    assert (scores >= threshold).tolist() == [[True, False], [False, False]]


@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_threshold_agrees_with_sorting(tokens, n_latents, k, seed):
    scores = torch.randn(tokens, n_latents, generator=torch.Generator().manual_seed(seed))
    mask = scores >= batch_topk_threshold(scores, min(k, n_latents))
    assert torch.equal(mask, naive_batch_topk(scores, min(k, n_latents)))


def test_threshold_is_the_same_in_double_precision():
    scores = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert batch_topk_threshold(scores.double(), 2) == pytest.approx(batch_topk_threshold(scores, 2))


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(1, 6), st.integers(1, 5), st.floats(0, 1), st.integers(0, 2**31))
def test_products_agree_with_dense_ones(tokens, n_latents, width, density, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(tokens, n_latents, generator=generator) < density
    dense = torch.randn(tokens, n_latents, generator=generator) * mask
    left = torch.randn(tokens, width, generator=generator)
    right = torch.randn(n_latents, width, generator=generator)
    pattern = SparsePattern.from_mask(mask)
    values = dense[mask]
    torch.testing.assert_close(pattern.times(values, right), dense @ right, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pattern.transposed_times(values, left), dense.T @ left, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pattern.sampled_product(left, right), (left @ right.T)[mask], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pattern.column_sums(values), dense.sum(dim=0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("known", [True, False])
def test_sparse_autoencoder_has_the_dense_values_and_gradients(known, assert_close):
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(40, 12, generator=generator)
    parameters = [
        torch.randn(30, 12, generator=generator),
        torch.randn(30, generator=generator),
        torch.randn(30, 12, generator=generator),
    ]
    preactivations = inputs @ parameters[0].T + parameters[1]
    mask = preactivations >= batch_topk_threshold(preactivations, 3)

    outcomes = []
    for dense in (True, False):
        W_enc, bias, W_dec = (parameter.clone().requires_grad_() for parameter in parameters)
        if dense:
            decoded = dense_autoencode(inputs, mask, W_enc, bias, W_dec)
        else:
            decoded = sparse_autoencode(inputs, preactivations if known else None, mask, W_enc, bias, W_dec)
        (decoded - inputs).square().sum().backward()
        outcomes.append([decoded.detach(), W_enc.grad, bias.grad, W_dec.grad])
    for expected, actual in zip(*outcomes, strict=True):
        assert_close(actual, expected, atol=1e-3)


def test_nothing_active_is_nothing_decoded():
    W_enc = torch.ones(4, 3, requires_grad=True)
    bias = torch.zeros(4, requires_grad=True)
    W_dec = torch.ones(4, 3, requires_grad=True)
    mask = torch.zeros(2, 4, dtype=torch.bool)
    decoded = sparse_autoencode(torch.ones(2, 3), torch.ones(2, 4), mask, W_enc, bias, W_dec)
    decoded.sum().backward()
    assert not decoded.any()
    assert not W_enc.grad.any()
    assert not W_dec.grad.any()


def test_sparse_products_are_for_sparse_latents_on_a_cpu():
    assert not use_sparse(torch.device("cpu"), n_latents=64, k=32)
    assert not use_sparse(torch.device("cuda"), n_latents=4096, k=32)
    assert use_sparse(torch.device("cpu"), n_latents=4096, k=32) == torch.backends.mkl.is_available()
