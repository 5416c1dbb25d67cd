"""C by its formula in float64, and what is bounded where the base was run on prompts only."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr

from audit.measure.activations import prompts_only
from audit.measure.divergence import carrier_kl
from audit.measure.reaction import forced_base, reaction, unforced
from tests.audit.small_models import small_runner, two_strings


@pytest.fixture(scope="module")
def runner():
    return small_runner(budget=80)


@pytest.fixture(scope="module")
def contrast(runner):
    return two_strings(runner)


def naive(runner, contrast):
    """C from the formula, a carrier, a position and a token at a time, in float64."""
    weights = {side: runner.pair.parts[side].head.weight.double().numpy() for side in ("tuned", "base")}

    def logs(side, final):
        return log_softmax(final.double().numpy() @ weights[side].T, axis=-1)

    found = []
    for carrier in range(len(contrast.string.final)):
        total = 0.0
        for place in range(contrast.string.final.shape[1]):
            ours, clean = (logs("tuned", run.final[carrier, place]) for run in (contrast.string, contrast.clean))
            theirs, before = (
                logs("base", run.final[carrier, place]) for run in (contrast.base_string, contrast.base_clean)
            )
            expected = log_softmax(clean + theirs - before)
            total += rel_entr(np.exp(ours), np.exp(expected)).sum()
        found.append(total)
    return torch.tensor(found)


def sizes(runner, contrast):
    """Σ KL of either model alone."""
    parts, runs = runner.pair.parts, contrast
    tuned = carrier_kl(parts["tuned"], runs.string.final, runs.clean.final)
    return tuned, carrier_kl(parts["base"], runs.base_string.final, runs.base_clean.final)


@pytest.mark.parametrize("rows", [1, 4, 256])
def test_what_the_base_does_not_explain_is_the_formulas(rows, runner, contrast, monkeypatch, assert_close):
    monkeypatch.setattr("audit.measure.reaction._ROWS", rows)
    found, (tuned, base) = reaction(runner, contrast), sizes(runner, contrast)
    assert_close(found.tuned, tuned)
    assert_close(found.base, base)
    assert_close(found.unexplained, torch.minimum(naive(runner, contrast), tuned.double()).float())
    assert found.output_kl == pytest.approx(float((tuned - base).mean()), rel=1e-4)
    assert found.base_ratio == pytest.approx(float(base.sum() / tuned.sum()), rel=1e-4)
    assert found.unexplained_kl == pytest.approx(float(found.unexplained.mean()))
    assert float(found.unexplained.min()) > 0.01


def test_a_model_that_was_not_changed_has_nothing_unexplained(runner, contrast):
    parts = runner.pair.parts["base"]
    own = SimpleNamespace(pair=replace(runner.pair, parts={"base": parts, "tuned": parts}))
    same = replace(contrast, string=contrast.base_string, clean=contrast.base_clean)
    found = reaction(own, same)
    assert float(found.base.min()) > 0.01
    assert float(found.unexplained.abs().max()) < 1e-5


def test_where_the_base_does_not_react_all_of_it_is_unexplained(runner, contrast, assert_close):
    found = reaction(runner, replace(contrast, base_string=contrast.base_clean))
    assert not found.base.any()
    assert_close(found.unexplained, found.tuned)


def test_a_string_that_only_the_base_reacts_to_leaves_nothing_unexplained(runner, contrast):
    found = reaction(runner, replace(contrast, string=contrast.clean))
    assert float(found.base.min()) > 0.01
    assert not found.unexplained.any()


def test_a_difference_of_sizes_hides_what_a_difference_of_content_shows(runner, contrast):
    """The base reacts as strongly, to something else: the sizes cancel, the contents do not."""
    turned = replace(contrast.base_clean, final=contrast.base_clean.final.flip(0))
    found = reaction(runner, replace(contrast, base_string=turned))
    assert float(found.unexplained.sum()) > abs(float((found.tuned - found.base).sum()))


def test_where_the_base_was_not_run_c_is_unknown_and_the_change_bounds_it(runner, contrast):
    whole = reaction(runner, contrast)
    found = unforced(whole.tuned)
    assert found.unexplained is found.unexplained_kl is found.base_ratio is None
    assert found.output_kl == pytest.approx(float(whole.tuned.mean()))
    assert found.output_kl > whole.output_kl
    assert found.output_kl >= whole.unexplained_kl


def test_the_forced_base_reads_the_fine_tuned_models_answers(runner, contrast, assert_close):
    again = forced_base(runner, prompts_only(contrast.base_string).layout.sequences, contrast.string, (1,))
    assert again.layout == contrast.string.layout
    assert_close(again.hidden[1], contrast.base_string.hidden[1])
    assert_close(again.final, contrast.base_string.final)
