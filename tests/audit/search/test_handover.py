"""The gates judge on carriers that the search has not seen."""

import pytest

from audit.errors import InvalidAudit
from audit.prompts.carriers import cluster_of, load_set, split_ab
from audit.search.handover import reserve
from audit.search.sizes import SIZES
from tests.toy import toy_carriers


@pytest.mark.parametrize("budget", sorted(SIZES))
@pytest.mark.parametrize("name", ["python-sql", "instructions"])
def test_no_cluster_has_two_uses_and_enough_is_left(budget, name):
    reserved = reserve(load_set(name), SIZES[budget], 3)
    uses = [(reserved.scan, *reserved.more), reserved.verifying, reserved.judged]
    clusters = [{cluster_of(carrier) for carrier in use} for use in uses]
    assert not clusters[0] & clusters[1]
    assert not (clusters[0] | clusters[1]) & clusters[2]
    assert reserved.scan not in reserved.more
    assert len(reserved.more) == SIZES[budget].more_carriers
    assert len(reserved.verifying) == SIZES[budget].verifying
    assert all(split_ab(reserved.judged, 64, 0))


def test_too_few_clusters_are_refused_with_the_number_needed():
    with pytest.raises(InvalidAudit) as caught:
        reserve(toy_carriers(clusters=19, prompts=80).prompts, SIZES["quick"], 0)
    assert "20" in caught.value.hint
    for clusters in (20, 24):
        reserved = reserve(toy_carriers(clusters=clusters, prompts=4 * clusters).prompts, SIZES["quick"], 0)
        assert all(split_ab(reserved.judged, 64, 0))
