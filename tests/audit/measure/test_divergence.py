import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr

from audit.measure import divergence as outputs
from audit.measure.divergence import carrier_kl, kl, log_probabilities
from tests.audit.small_models import small_runner


@pytest.fixture(scope="module")
def parts():
    return small_runner("gemma2").pair.parts["tuned"]  # with a softcap


def finals(seed, carriers=5, count=3):
    return 2 * torch.randn(carriers, count, 32, generator=torch.Generator().manual_seed(seed))


def by_scipy(parts, p, q):
    weight = parts.head.weight.double().numpy()

    def probabilities(final):
        logits = final.double().numpy() @ weight.T
        return np.exp(log_softmax(parts.softcap * np.tanh(logits / parts.softcap), axis=-1))

    return torch.from_numpy(rel_entr(probabilities(p), probabilities(q)).sum(-1))


@pytest.mark.parametrize("rows", [1, 4, 512])
def test_divergences_are_scipys(rows, parts, monkeypatch, assert_close):
    monkeypatch.setattr(outputs, "_ROWS", rows)
    p, q = finals(0), finals(1)
    assert_close(carrier_kl(parts, p, q), by_scipy(parts, p, q).sum(-1))


def test_equal_runs_do_not_diverge(parts):
    assert not carrier_kl(parts, finals(0), finals(0)).any()
    assert carrier_kl(parts, finals(0).bfloat16(), finals(0).bfloat16()).dtype == torch.float32


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-60, 60), st.floats(-60, 60)), min_size=2, max_size=9))
def test_divergence_is_never_negative_nor_infinite(pairs):
    log_p, log_q = torch.tensor(pairs).T.log_softmax(-1)
    value = float(kl(log_p, log_q))
    assert np.isfinite(value)
    assert value >= -1e-5


def test_log_probabilities_sum_to_one(parts, assert_close):
    got = log_probabilities(parts, finals(5))
    assert got.shape == (5, 3, 97)
    assert_close(got.exp().sum(-1), torch.ones(5, 3))
