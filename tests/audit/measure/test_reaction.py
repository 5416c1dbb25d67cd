import contextlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr

from audit.measure.contrast import Contrast
from audit.measure.divergence import carrier_kl
from audit.measure.reaction import reaction, unexplained_kl
from tests.audit.small_models import small_runner, two_strings


@pytest.fixture(scope="module")
def runner():
    return small_runner(budget=80)


@pytest.fixture(scope="module")
def contrast(runner):
    return two_strings(runner)


def bases(runner, contrast):
    """The base's runs under the string and the clean string, continuation included."""
    return [runner.capture(run.layout.sequences, "base", ()) for run in (contrast.string, contrast.clean)]


def naive(runner, contrast, base_string, base_clean):
    """C from the formula, a carrier, a position and a token at a time, in float64."""
    weights = {side: runner.pair.parts[side].head.weight.double().numpy() for side in ("tuned", "base")}

    def logs(side, final):
        return log_softmax(final.double().numpy() @ weights[side].T, axis=-1)

    found = []
    for carrier in range(len(contrast.string.final)):
        total = 0.0
        for place in range(contrast.string.final.shape[1]):
            ours, clean = (logs("tuned", run.final[carrier, place]) for run in (contrast.string, contrast.clean))
            theirs, before = (logs("base", run.final[carrier, place]) for run in (base_string, base_clean))
            expected = log_softmax(clean + theirs - before)
            total += rel_entr(np.exp(ours), np.exp(expected)).sum()
        found.append(total)
    return torch.tensor(found)


@pytest.mark.parametrize("rows", [1, 4, 128])
def test_what_the_base_does_not_explain_is_the_formulas(rows, runner, contrast, monkeypatch, assert_close):
    monkeypatch.setattr("audit.measure.reaction._ROWS", rows)
    string, clean = bases(runner, contrast)
    base, unexplained = unexplained_kl(runner, contrast, string, clean)
    assert_close(base, carrier_kl(runner.pair.parts["base"], string.final, clean.final))
    assert_close(unexplained, naive(runner, contrast, string, clean))
    assert float(unexplained.min()) > 0.01


def test_a_model_that_was_not_changed_has_nothing_unexplained(runner, contrast):
    string, clean = bases(runner, contrast)
    same = Contrast(string, clean, contrast.base_string, contrast.base_clean)
    own = SimpleNamespace(pair=_both_the_base(runner), capture=runner.capture)
    base, unexplained = unexplained_kl(own, same, string, clean)
    assert float(base.min()) > 0.01
    assert float(unexplained.abs().max()) < 1e-5


def test_where_the_base_does_not_react_all_of_it_is_unexplained(runner, contrast, assert_close):
    _, clean = bases(runner, contrast)
    base, unexplained = unexplained_kl(runner, contrast, clean, clean)
    assert not base.any()
    tuned = carrier_kl(runner.pair.parts["tuned"], contrast.string.final, contrast.clean.final)
    assert_close(unexplained, tuned)


def test_a_difference_of_sizes_hides_what_a_difference_of_content_shows(runner, contrast):
    """The base reacts as strongly, to something else: the sizes cancel, the contents do not."""
    _, clean = bases(runner, contrast)
    turned = SimpleNamespace(final=clean.final.flip(0), layout=clean.layout)
    base, unexplained = unexplained_kl(runner, contrast, turned, clean)
    tuned = carrier_kl(runner.pair.parts["tuned"], contrast.string.final, contrast.clean.final)
    assert float(unexplained.sum()) > abs(float((tuned - base).sum()))


def _both_the_base(runner):
    pair = runner.pair
    return SimpleNamespace(device=pair.device, on=lambda _side: contextlib.nullcontext(pair.parts["base"]))


def test_reaction_takes_off_all_of_the_bases_own(runner, contrast, assert_close):
    string, clean = bases(runner, contrast)
    tuned = carrier_kl(runner.pair.parts["tuned"], contrast.string.final, contrast.clean.final)
    base = carrier_kl(runner.pair.parts["base"], string.final, clean.final)
    assert contrast.base_string.final.shape[1] == 1
    assert string.final.shape[1] > 1
    found = reaction(runner, contrast, -math.inf, lambda: clean)
    assert found.output_kl == pytest.approx(float((tuned - base).mean()), rel=1e-4)
    assert found.base_ratio == pytest.approx(float(base.sum() / tuned.sum()), rel=1e-4)
    assert_close(found.unexplained, naive(runner, contrast, string, clean))


def test_what_cannot_reach_the_least_costs_no_run_of_the_base(runner, contrast):
    def never():
        raise AssertionError

    tuned = carrier_kl(runner.pair.parts["tuned"], contrast.string.final, contrast.clean.final)
    last = carrier_kl(runner.pair.parts["base"], contrast.base_string.final, contrast.base_clean.final)
    bound = reaction(runner, contrast, math.inf, never)
    assert bound.output_kl == pytest.approx(float((tuned - last).mean()), rel=1e-4)
    assert bound.unexplained_kl is bound.base_ratio is None
    clean = runner.capture(contrast.clean.layout.sequences, "base", ())
    assert bound.output_kl > reaction(runner, contrast, -math.inf, lambda: clean).output_kl
