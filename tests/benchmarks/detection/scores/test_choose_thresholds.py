"""The committed thresholds: the service judges by them, and the rule gives them again from the committed records."""

import pytest

from audit.verdict import gates
from benchmarks.detection.__main__ import RESULTS
from benchmarks.detection.make_split import SPLIT
from benchmarks.detection.records import collect
from benchmarks.detection.scores import choose_thresholds
from benchmarks.detection.verdicts import STARTING, THRESHOLDS, thresholds
from benchmarks.harness.records import read


@pytest.fixture(scope="module")
def found():
    return collect(read(SPLIT), RESULTS)


def test_what_the_service_kept_of_the_frozen_thresholds_is_as_it_was_frozen():
    """The third version has no use for the two others."""
    kept = {
        "behaviour_nats": gates.BEHAVIOUR_NATS,
        "effect_nats": gates.EFFECT_NATS,
        "recovered": gates.MIN_RECOVERED,
    }
    assert kept.items() <= thresholds().items()


def test_they_were_chosen_on_all_of_development_and_nothing_else(found):
    record = read(THRESHOLDS)
    assert record["units"] == sorted(unit.name for unit in found.ended("development"))
    assert not found.outstanding("development")


def test_the_rule_gives_them_again(found):
    record = read(THRESHOLDS)
    assert record["starting_values"] == STARTING
    units = found.ended("development")
    assert choose_thresholds.choose(units) == (record["thresholds"], record["loss"])
    assert choose_thresholds.loss_of(units, STARTING) == record["loss_of_starting_values"] > record["loss"]
