"""Whether the service can take audits: each part that cannot be used is named, and nothing of it is told."""

import pytest

from service.dependencies import Dependencies
from service.errors import NotReady
from service.health.service import check_ready


def named(dependencies):
    with pytest.raises(NotReady) as caught:
        check_ready(dependencies)
    for item in caught.value.errors:
        assert str(dependencies.settings.data_dir) not in item.detail
    return [item.pointer for item in caught.value.errors]


@pytest.fixture
def with_settings(dependencies):
    """The parts with other settings."""
    made = []

    def open_(**changes):
        made.append(Dependencies.open(dependencies.settings.model_copy(update=changes)))
        return made[-1]

    yield open_
    for each in made:
        each.close()


def test_with_every_part_there_it_is_ready(with_settings, broker_url):
    check_ready(with_settings(broker_url=broker_url))


def test_a_missing_part_is_named(with_settings, dependencies, broker_url, tmp_path):
    assert named(dependencies) == ["#/broker"]
    assert named(with_settings(broker_url=broker_url, models_root=tmp_path / "none")) == ["#/models_root"]
    unmigrated = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    assert named(with_settings(broker_url=broker_url, database_url=unmigrated)) == ["#/ledger"]
    assert named(with_settings(database_url=unmigrated)) == ["#/ledger", "#/broker"]
