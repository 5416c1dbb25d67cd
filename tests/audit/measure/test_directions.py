import pytest
import torch

from audit.measure import directions
from audit.measure.directions import attribution_directions, difference_in_means


@pytest.fixture(params=["dense", "iterative"])
def path(request, monkeypatch):
    """Both ways to the eigenvectors."""
    monkeypatch.setattr(directions, "_DENSE_BELOW", 10_000 if request.param == "dense" else 0)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("path")
def test_a_planted_direction_is_found(assert_close):
    planted = torch.nn.functional.normalize(random(40), dim=0)
    strength = random(200, 1, seed=1).abs()
    # The largest difference lies elsewhere, where the outputs do not look.
    loud = torch.nn.functional.normalize(random(40, seed=2), dim=0)
    did = strength * planted + 20 * random(200, 1, seed=3) * loud + 0.01 * random(200, 40, seed=4)
    gradient = 1e-6 * (strength * planted + 0.01 * random(200, 40, seed=5))
    found = attribution_directions(did, gradient, 4)
    assert_close(found.T @ found, torch.eye(4), atol=1e-4)
    assert abs(float(found[:, 0] @ planted)) > 0.95
    assert float(did.mean(0) @ found[:, 0]) >= 0


@pytest.mark.usefixtures("path")
def test_columns_are_ordered_by_eigenvalue(assert_close):
    did = torch.diag(torch.tensor([1.0, 3.0, 2.0, 0.5, -4.0, 0.1]))
    found = attribution_directions(did, torch.eye(6), 3)
    assert_close(found.abs(), torch.eye(6)[:, [1, 2, 0]], atol=1e-3)


def test_both_paths_agree(monkeypatch, assert_close):
    did, gradient = random(300, 60), random(300, 60, seed=1)
    dense = attribution_directions(did, gradient, 4)
    monkeypatch.setattr(directions, "_DENSE_BELOW", 0)
    assert_close(attribution_directions(did, gradient, 4), dense, atol=2e-2)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("nothing", ["did", "gradient"])
def test_where_nothing_differs_some_directions_are_given(nothing, assert_close):
    did, gradient = random(50, 40), random(50, 40, seed=1)
    if nothing == "did":
        did = torch.zeros(50, 40)
    else:
        gradient = torch.zeros(50, 40)
    found = attribution_directions(did, gradient, 4)
    assert_close(found.T @ found, torch.eye(4))


def test_difference_in_means(assert_close):
    assert_close(difference_in_means(torch.tensor([[6.0, 0.0], [0.0, 8.0]])), torch.tensor([[0.6], [0.8]]))
    assert torch.equal(difference_in_means(torch.zeros(3, 2)), torch.zeros(2, 1))
