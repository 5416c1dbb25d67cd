from types import SimpleNamespace

import pytest
import torch

from audit.measure import confirm


@pytest.mark.parametrize(
    ("reached", "rank"),
    [((1.0, 1.05, 1.1), 1), ((0.5, 1.0, 1.1), 2), ((0.5, 0.6, 1.1), 4), ((-0.01, -0.012, -0.015), 1)],
)
def test_the_fewest_directions_that_keep_the_effect_and_one_where_there_is_none(monkeypatch, reached, rank):
    def effects(runner, contrast, layer, bases):
        assert [basis.shape[1] for basis in bases] == [1, 2, 4]
        return SimpleNamespace(nats=lambda place: reached[place])

    monkeypatch.setattr(confirm, "effects", effects)
    directions = SimpleNamespace(layer=3, basis={3: torch.eye(8)[:, :4]})
    extraction = SimpleNamespace(
        setup=SimpleNamespace(runner=None), contrast=lambda half: None, directions=directions
    )  # fmt: skip
    assert confirm._smallest_basis(extraction).shape[1] == rank
