import math

import pytest
import torch

from audit.stats.columns import column_chunks, sorted_columns


def test_chunks_cover_every_column_once_in_order():
    one, other = torch.arange(10.0).reshape(2, 5), torch.arange(15.0).reshape(3, 5).bfloat16()
    chunks = list(column_chunks(2, one, other))
    assert [part.shape[1] for part, _ in chunks] == [2, 2, 1]
    assert torch.equal(torch.cat([part for part, _ in chunks], dim=1), one)
    assert torch.equal(torch.cat([part for _, part in chunks], dim=1), other.float())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_chunks_refuse_what_is_not_finite(bad):
    matrix = torch.zeros(2, 5)
    matrix[1, 4] = bad
    with pytest.raises(ValueError, match="not finite"):
        list(column_chunks(2, torch.zeros(1, 5), matrix))


@pytest.mark.parametrize("shape", [(7, 4), (1, 4), (4, 1), (1, 1), (3, 0)])
def test_sorted_columns_are_torchs_and_the_input_stays(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    before = matrix.detach().clone()
    got = sorted_columns(matrix)
    assert torch.equal(got, before.sort(dim=0).values.T)
    assert torch.equal(matrix.detach(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_sorted_columns_are_the_same_on_a_gpu():
    matrix = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sorted_columns(matrix.cuda()).cpu(), sorted_columns(matrix))
