import pytest
import torch

from audit.measure.contrast import Contrast, effects, first_carriers, fit_directions, induced
from tests.audit.small_models import small_runner, two_strings


@pytest.fixture(scope="module")
def runner():
    return small_runner(budget=80)


@pytest.fixture(scope="module")
def contrast(runner):
    return two_strings(runner)


def test_difference_in_differences_by_hand(contrast, assert_close):
    row = 0
    did = contrast.did(1)
    for index, sequence in enumerate(contrast.string.layout.sequences):
        for position in range(sequence.span_start, len(sequence)):
            ours = [run.hidden[1][run.layout.starts[index] + position] for run in (contrast.string, contrast.clean)]
            expected = ours[0] - ours[1]
            if position < sequence.prompt_length:
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


def test_putting_everything_back_undoes_everything(runner, contrast):
    whole, nothing = torch.eye(32), torch.zeros(32, 0)
    for layer in (0, 1, 2):
        found = effects(runner, contrast, layer, [whole, nothing])
        assert found.recovered(0) == pytest.approx(1.0, abs=1e-4)
        assert found.recovered(1) == pytest.approx(0.0, abs=1e-6)
        assert found.nats(0) == pytest.approx(float(found.intact.mean()), rel=1e-3)
        assert induced(runner, contrast, layer, whole) == pytest.approx(1.0, abs=1e-4)
    same = Contrast(contrast.string, contrast.string, contrast.base_string, contrast.base_string)
    assert effects(runner, same, 1, [whole]).recovered() is None
    assert induced(runner, same, 1, whole) is None


def test_the_layer_with_the_largest_effect_is_chosen(runner, contrast, assert_close):
    found = fit_directions(runner, contrast, (2, 0, 1))
    assert found.layer == max(found.effect_a, key=found.effect_a.get)
    for layer in (0, 1, 2):
        assert_close(found.basis[layer].T @ found.basis[layer], torch.eye(4))
        again = effects(runner, contrast, layer, [found.basis[layer][:, :1]]).nats()
        assert found.effect_a[layer] == pytest.approx(again, abs=1e-5)
        assert found.gradient[layer].shape == contrast.did(layer).shape
    part = first_carriers(contrast, 3)
    assert len(part.string.layout) == len(part.base_clean.layout) == 3


def test_a_size_that_the_base_does_not_measure_is_none_and_never_zero(contrast):
    direction = torch.nn.functional.one_hot(torch.tensor(0), 32).float()
    assert contrast.last(1).amplification(direction) is not None
    alike = Contrast(contrast.string, contrast.clean, contrast.base_string, contrast.base_string)
    assert alike.last(1).amplification(direction) is None
