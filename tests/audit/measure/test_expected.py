"""What the base predicts, by the formula one token at a time in float64, and the losses that directions come from."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr

from audit.measure.divergence import carrier_kl
from audit.measure.expected import Expected
from tests.audit.small_models import small_pair


@pytest.fixture(scope="module")
def pair():
    return small_pair()


def finals(seed, carriers=5, outputs=3):
    return 2 * torch.randn(carriers, outputs, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def expected(pair):
    return Expected(pair, finals(1), finals(2), finals(3))


def by_hand(pair, expected, run, *, backwards=False):
    weights = {side: pair.parts[side].head.weight.double().numpy() for side in ("tuned", "base")}

    def logs(side, final):
        return log_softmax(final.double().numpy() @ weights[side].T, axis=-1)

    found = []
    for carrier in range(len(run)):
        total = 0.0
        for place in range(run.shape[1]):
            clean = logs("tuned", expected.clean[carrier, place])
            change = logs("base", expected.base_string[carrier, place]) - logs(
                "base", expected.base_clean[carrier, place]
            )
            ours, theirs = np.exp(logs("tuned", run[carrier, place])), np.exp(log_softmax(clean + change))
            total += rel_entr(*((theirs, ours) if backwards else (ours, theirs))).sum()
        found.append(total)
    return torch.tensor(found)


@pytest.mark.parametrize("rows", [1, 4, 256])
def test_divergences_from_what_the_base_predicts_are_the_formulas(rows, pair, expected, monkeypatch, assert_close):
    monkeypatch.setattr("audit.measure.expected._ROWS", rows)
    runs = [finals(4), finals(5)]
    for got, run in zip(expected.kls(runs), runs, strict=True):
        assert_close(got, by_hand(pair, expected, run))


def test_a_base_that_does_not_react_predicts_the_clean_answer(pair, assert_close):
    same = Expected(pair, finals(1), finals(2), finals(2))
    assert_close(same.kls([finals(4)])[0], carrier_kl(pair.parts["tuned"], finals(4), finals(1)))


def test_losses_are_the_divergences_of_a_group(pair, expected, assert_close):
    run, group = finals(4), [1, 4]
    parts = pair.parts["tuned"]
    forward = by_hand(pair, expected, run)[group].sum()
    assert_close(expected.divergence(parts, group, run[group]), forward)
    both = forward + by_hand(pair, expected, run, backwards=True)[group].sum()
    assert_close(expected.symmetric_divergence(parts, group, run[group]), both)


def test_the_symmetric_loss_has_gradients_where_the_run_is_certain(pair):
    """A run that is sure of one token, where another is expected: KL(run‖q) alone has next to no gradient there."""
    parts = pair.parts["tuned"]
    with torch.no_grad():
        sure, other = (60 * row / row.norm() for row in parts.head.weight[5:7])
    expected = Expected(pair, other.reshape(1, 1, -1), finals(2, 1, 1), finals(2, 1, 1))
    sizes = []
    for loss in (expected.divergence, expected.symmetric_divergence):
        run = sure.reshape(1, 1, -1).clone().requires_grad_()
        loss(parts, [0], run).backward()
        sizes.append(float(run.grad.norm()))
    assert sizes[0] < 1e-2 * sizes[1]
