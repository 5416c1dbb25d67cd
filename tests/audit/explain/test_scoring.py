import pytest
import torch

from audit.explain import scoring
from audit.measure.spans import SpanTokens


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_a_prompts_activation_is_the_largest_over_its_span(rows, monkeypatch, assert_close):
    monkeypatch.setattr(scoring, "_ROWS", rows)
    generator = torch.Generator().manual_seed(0)
    base, tuned = torch.randn(9, 4, generator=generator), torch.randn(9, 4, generator=generator)
    carriers = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 3])
    most, last = scoring._encode_rows(SpanTokens(base, tuned, carriers), 4, lambda batch: batch.tuned - batch.base)
    delta = tuned - base
    assert_close(most, torch.stack([delta[carriers == index].amax(0) for index in range(4)]))
    assert_close(last, torch.stack([delta[carriers == index][-1] for index in range(4)]))
