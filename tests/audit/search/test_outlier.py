"""The outlier score against a reference that follows its definition, one string and direction at a time."""

import pytest
import torch

from audit.search.outlier import DIRECTIONS, RESIDUAL_WEIGHT, Background


def naive(background, string):
    """Eigenvectors of the covariance instead of a decomposition of the rows; loops instead of products."""
    rows = background.double()
    mean = rows.mean(0)
    values, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    values, vectors = values.flip(0), vectors.flip(1)

    def raw(row):
        centred, total, outside = row.double() - mean, 0.0, row.double() - mean
        for index in range(DIRECTIONS):
            along = float(centred @ vectors[:, index])
            total += along**2 / float(values[index] + values[DIRECTIONS])
            outside = outside - along * vectors[:, index]
        return total, float(outside @ outside)

    parts = [raw(row) for row in rows]
    residual = sum(outside for _, outside in parts) / len(parts)
    scale = sum(total + RESIDUAL_WEIGHT * outside / residual for total, outside in parts) / len(parts)
    total, outside = raw(string)
    return (total + RESIDUAL_WEIGHT * outside / residual) / scale


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    scales = torch.linspace(3.0, 0.1, 48)
    return torch.randn(160, 48, generator=generator) * scales + 5.0


def test_it_is_its_definition(rows, assert_close):
    strings = torch.stack([rows[0] + 1.0, rows[1] * 3.0, rows.mean(0)])
    expected = torch.tensor([naive(rows, string) for string in strings])
    assert_close(Background.of(rows).scores(strings), expected, rtol=1e-3)


def test_its_mean_over_the_background_is_one(rows, assert_close):
    assert_close(Background.of(rows).scores(rows).mean(), torch.tensor(1.0))


def test_a_new_direction_stands_out_further_than_a_shared_one(rows):
    rows[:, 28:] = 5.0
    usual, new = torch.zeros(48), torch.zeros(48)
    usual[0], new[47] = 20.0, 20.0
    scores = Background.of(rows).scores(rows.mean(0) + torch.stack([usual, new]))
    assert float(scores[1]) > 5 * float(scores[0])


def test_few_strings_and_equal_strings_are_scored(rows):
    few = Background.of(rows[:6])
    assert few.basis.shape[1] == 3
    assert torch.isfinite(few.scores(rows)).all()
    assert torch.isfinite(Background.of(rows[:1].expand(8, -1)).scores(rows[:1])).all()
