import pytest
import torch

from audit.measure.activations import prompts_only
from audit.measure.contrast import Contrast, effects, first_carriers, fit_at, fit_directions
from audit.models.pair import ModelPair
from audit.models.runner import Runner
from tests.audit.small_models import small_runner, two_strings


@pytest.fixture(scope="module")
def runner():
    return small_runner(budget=80)


@pytest.fixture(scope="module")
def contrast(runner):
    return two_strings(runner)


@pytest.mark.parametrize("forced", [True, False])
def test_difference_in_differences_by_hand(forced, runner, assert_close):
    contrast = two_strings(runner, forced=forced)
    assert contrast.forced == forced
    row = 0
    did = contrast.did(1)
    for index, sequence in enumerate(contrast.string.layout.sequences):
        for position in range(sequence.span_start, len(sequence)):
            ours = [run.hidden[1][run.layout.starts[index] + position] for run in (contrast.string, contrast.clean)]
            expected = ours[0] - ours[1]
            if forced or position < sequence.prompt_length:
                both = contrast.base_string, contrast.base_clean
                theirs = [run.hidden[1][run.layout.starts[index] + position] for run in both]
                expected = expected - (theirs[0] - theirs[1])
            assert_close(did[row], expected)
            row += 1
    assert row == len(did)
    last = contrast.last(1)
    ends = [contrast.base_string.layout.last_prompt_row(index) for index in range(6)]
    assert_close(last.base_string, contrast.base_string.hidden[1][ends])
    assert_close(last.did, (last.tuned_string - last.tuned_clean) - (last.base_string - last.base_clean))


def test_runs_of_the_base_may_cover_the_continuation_under_one_string_alone(runner, contrast, assert_close):
    part = Contrast(contrast.string, contrast.clean, prompts_only(contrast.base_string), contrast.base_clean)
    assert not part.forced
    assert_close(part.did(1), two_strings(runner, forced=False).did(1))


def test_taking_everything_out_undoes_everything_where_the_base_does_not_react(runner, contrast):
    whole, nothing = torch.eye(32), torch.zeros(32, 0)
    still = Contrast(contrast.string, contrast.clean, contrast.base_clean, contrast.base_clean)
    for layer in (0, 1, 2):
        found = effects(runner, still, layer, [whole, nothing])
        assert found.recovered(0) == pytest.approx(1.0, abs=1e-4)
        assert found.recovered(1) == pytest.approx(0.0, abs=1e-6)
        assert found.nats(0) == pytest.approx(float(found.intact.mean()), rel=1e-3)
    same = Contrast(contrast.string, contrast.string, contrast.base_string, contrast.base_string)
    assert effects(runner, same, 1, [whole]).recovered() is None


def test_a_base_against_itself_has_no_effect_whatever_the_string_means_to_it():
    """Zero by construction: nothing is left unexplained, and there is nothing to take out."""
    own = small_runner(budget=80).pair
    models, parts = (dict.fromkeys(("base", "tuned"), kept["base"]) for kept in (own.models, own.parts))
    runner = Runner(ModelPair("full", models, parts, own.tokenizer, "float32", own.device), budget=80)
    contrast = two_strings(runner)
    found = fit_directions(runner, contrast, (0, 1, 2))
    assert not any(bool(contrast.did(layer).any()) for layer in (0, 1, 2))
    assert max(abs(value) for value in found.effect_a.values()) < 1e-5
    assert float(effects(runner, contrast, 1, [torch.eye(32)]).intact.max()) < 1e-5


def test_the_layer_with_the_largest_effect_is_chosen(runner, contrast, assert_close):
    found = fit_directions(runner, contrast, (2, 0, 1))
    assert found.layer == max(found.effect_a, key=found.effect_a.get)
    for layer in (0, 1, 2):
        assert_close(found.basis[layer].T @ found.basis[layer], torch.eye(4))
        again = effects(runner, contrast, layer, [found.basis[layer][:, :1]]).nats()
        assert found.effect_a[layer] == pytest.approx(again, abs=1e-5)
        assert found.gradient[layer].shape == contrast.did(layer).shape
        alone = fit_at(runner, contrast, layer)
        assert_close((alone.T @ found.basis[layer]).abs(), torch.eye(4), atol=1e-3)
    part = first_carriers(contrast, 3)
    assert len(part.string.layout) == len(part.base_clean.layout) == 3


def test_a_size_that_the_base_does_not_measure_is_none_and_never_zero(contrast):
    direction = torch.nn.functional.one_hot(torch.tensor(0), 32).float()
    assert contrast.last(1).amplification(direction) is not None
    alike = Contrast(contrast.string, contrast.clean, contrast.base_string, contrast.base_string)
    assert alike.last(1).amplification(direction) is None
