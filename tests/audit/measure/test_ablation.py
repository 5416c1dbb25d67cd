import torch

from audit.measure.ablation import Alignment, orthonormal, removed_along
from audit.models.layout import Layout
from audit.prompts.rendering import Tokens


def test_spans_are_aligned_from_the_right():
    # Prompts of 5 and 4 tokens with two forced ones each; the strings begin at 2 and at 2: spans of 5 and 4 rows.
    first = Layout.of([Tokens((0,) * 7, 5, 2), Tokens((0,) * 4, 2, 1)])
    second = Layout.of([Tokens((0,) * 6, 4, 2), Tokens((0,) * 5, 3, 1)])
    rows = Alignment.of(first, second)
    assert rows.left.tolist() == [3, 4, 5, 6, 8, 9, 10]
    assert rows.right.tolist() == [2, 3, 4, 5, 8, 9, 10]
    assert rows.carrier.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert rows.in_prompt.tolist() == [True, True, False, False, True, False, False]


def test_what_lies_along_the_basis_is_taken_out_at_the_given_rows_alone(assert_close):
    target = torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0]])
    rows, difference = torch.tensor([1, 2]), torch.tensor([[3.0, 4.0, 5.0], [1.0, 0.0, 7.0]])
    got = removed_along(target, rows, difference, torch.tensor([[0.0], [1.0], [0.0]]))
    assert_close(got, torch.tensor([[1.0, 1.0, 1.0], [2.0, -2.0, 2.0], [3.0, 3.0, 3.0]]))
    assert target[1, 1] == 2.0, "the run itself must not change"
    # (3,4,5) along (0.6,0.8,0) is 5, (1,0,7) is 0.6.
    got = removed_along(target, rows, difference, torch.tensor([[0.6], [0.8], [0.0]]))
    assert_close(got[1:], torch.tensor([[-1.0, -2.0, 2.0], [2.64, 2.52, 3.0]]))


def test_a_full_basis_takes_out_everything_and_an_empty_one_nothing(assert_close):
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([1, 4, 5])
    target, difference = torch.randn(7, 4, generator=generator), torch.randn(3, 4, generator=generator)
    basis, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator))
    got = removed_along(target, rows, difference, basis)
    assert_close(got[rows], target[rows] - difference)
    assert torch.equal(got[[0, 2, 3, 6]], target[[0, 2, 3, 6]])
    assert torch.equal(removed_along(target, rows, difference, torch.zeros(4, 0)), target)
    assert removed_along(target.bfloat16(), rows, difference, basis).dtype == torch.bfloat16


def test_orthonormal_drops_what_adds_nothing(assert_close):
    columns = torch.tensor([[3.0, 6.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    basis = orthonormal(columns)
    assert basis.shape == (3, 2)
    assert_close(basis.T @ basis, torch.eye(2))
    assert_close(basis @ basis.T @ columns, columns)
    assert orthonormal(torch.zeros(3, 2)).shape == (3, 0)
    assert orthonormal(torch.zeros(3, 0)).shape == (3, 0)
