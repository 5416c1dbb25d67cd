import torch

from audit.measure.ablation import Alignment, orthonormal, replace_along
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


def test_coefficients_along_the_basis_are_the_sources(assert_close):
    layouts = Layout.of([Tokens((1, 2, 3), 3, 1)]), Layout.of([Tokens((1, 2, 3), 3, 1)])
    target = torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0]])
    source = torch.tensor([[9.0, 9.0, 9.0], [5.0, 6.0, 7.0], [0.0, 0.0, 0.0]])
    basis = torch.tensor([[0.0], [1.0], [0.0]])
    got = replace_along(target, source, basis, Alignment.of(*layouts))
    assert_close(got, torch.tensor([[1.0, 1.0, 1.0], [2.0, 6.0, 2.0], [3.0, 0.0, 3.0]]))
    assert target[1, 1] == 2.0, "the run itself must not change"
    diagonal = torch.tensor([[0.6], [0.8], [0.0]])
    got = replace_along(target, source, diagonal, Alignment.of(*layouts))
    # (5,6,7) − (2,2,2) = (3,4,5); along (0.6,0.8,0): 5; so (2,2,2) + 5·(0.6,0.8,0) = (5,6,2).
    assert_close(got[1], torch.tensor([5.0, 6.0, 2.0]))


def test_a_full_basis_gives_the_source_and_an_empty_one_the_target(assert_close):
    generator = torch.Generator().manual_seed(0)
    first = Layout.of([Tokens((0,) * 6, 4, 2), Tokens((0,) * 5, 3, 0)])
    second = Layout.of([Tokens((0,) * 5, 3, 1), Tokens((0,) * 5, 3, 0)])
    rows = Alignment.of(first, second)
    target, source = torch.randn(11, 4, generator=generator), torch.randn(10, 4, generator=generator)
    basis, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator))
    got = replace_along(target, source, basis, rows)
    assert_close(got[rows.left], source[rows.right])
    others = [row for row in range(11) if row not in rows.left.tolist()]
    assert torch.equal(got[others], target[others])
    assert torch.equal(replace_along(target, source, torch.zeros(4, 0), rows), target)
    assert replace_along(target.bfloat16(), source, basis, rows).dtype == torch.bfloat16


def test_orthonormal_drops_what_adds_nothing(assert_close):
    columns = torch.tensor([[3.0, 6.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    basis = orthonormal(columns)
    assert basis.shape == (3, 2)
    assert_close(basis.T @ basis, torch.eye(2))
    assert_close(basis @ basis.T @ columns, columns)
    assert orthonormal(torch.zeros(3, 2)).shape == (3, 0)
    assert orthonormal(torch.zeros(3, 0)).shape == (3, 0)
