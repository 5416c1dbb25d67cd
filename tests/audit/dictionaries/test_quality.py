import pytest
import torch

from audit.dictionaries import DiffSAE, TensorSource, measure


def first_coordinate(d_model: int) -> DiffSAE:
    """Reconstructs the first coordinate of Δ where it is positive, and nothing else; a second latent never fires."""
    W_dec = torch.zeros(2, d_model)
    W_dec[0, 0] = W_dec[1, 1] = 1.0
    return DiffSAE(
        W_enc=W_dec.T.clone() * torch.tensor([1.0, 0.0]),
        b_enc=torch.zeros(2),
        W_dec=W_dec,
        b_dec=torch.zeros(d_model),
        threshold=torch.zeros(2),
        k=1,
        input_scale=1.0,
    )


def test_numbers_worked_by_hand():
    delta = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, -1.0], [-2.0, 0.0]])
    base = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    source = TensorSource(base, base + delta, torch.zeros(4, dtype=torch.long))
    quality = measure(first_coordinate(2), source, torch.arange(4))
    # Mean zero; deviations 4 + 1 + 1 + 4, of which the first row's 4 is explained.
    assert quality.fve == pytest.approx(0.4)
    # The largest two differences tie at the top: 4 of 8.
    assert quality.fve_top1pct == pytest.approx(0.5)
    assert quality.l0 == 0.25
    assert quality.dead_share == 0.5
    assert quality.var_ratio == pytest.approx(10 / 20)


def test_chunks_do_not_matter(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    base, tuned = torch.randn(2, 500, 3, generator=generator).unbind(0)
    source = TensorSource(base, tuned, torch.zeros(500, dtype=torch.long))
    whole = measure(first_coordinate(3), source, torch.arange(500))
    monkeypatch.setattr("audit.dictionaries.quality._CHUNK", 7)
    chunked = measure(first_coordinate(3), source, torch.randperm(500, generator=generator))
    for name in ("fve", "fve_top1pct", "l0", "dead_share", "var_ratio"):
        assert getattr(chunked, name) == pytest.approx(getattr(whole, name), rel=1e-5)


def test_no_difference_is_nothing_explained():
    base = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    quality = measure(
        first_coordinate(3), TensorSource(base, base, torch.zeros(10, dtype=torch.long)), torch.arange(10)
    )
    assert (quality.fve, quality.fve_top1pct, quality.l0, quality.var_ratio) == (0.0, 0.0, 0.0, 0.0)


def test_no_tokens_cannot_be_measured():
    source = TensorSource(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="no tokens"):
        measure(first_coordinate(2), source, torch.zeros(0, dtype=torch.long))
