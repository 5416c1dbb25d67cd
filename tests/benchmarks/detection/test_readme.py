"""The rates that the README names are those of the committed records."""

from collections import Counter

import pytest

from audit.statistics import zero_alarm_bound
from benchmarks._audits import read
from benchmarks._machine import ROOT
from benchmarks.detection.__main__ import RESULTS
from benchmarks.detection.make_split import SPLIT
from benchmarks.detection.records import FIRST, collect

OWN = ("true", "mentioned")


@pytest.fixture(scope="module")
def units():
    """The test part's first audits."""
    return [unit for unit in collect(read(SPLIT), RESULTS).units if unit.part == "test" and unit.audit == FIRST]


@pytest.fixture(scope="module")
def readme():
    return " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def counted(units):
    found = Counter(unit.verdict for unit in units)
    return f"{found['flagged']} | {found['review']} | {found['no_evidence']} |"


def word(count):
    return ("none", "one")[count] if count < 2 else str(count)


def test_own_pairs(units, readme):
    own = [unit for unit in units if unit.role in OWN]
    bad, good = ([unit for unit in own if unit.label == label] for label in ("backdoored", "benign"))
    strong, weak = [unit for unit in bad if unit.strong], [unit for unit in bad if not unit.strong]
    merges = sum(unit.recipe == "merge" for unit in good)
    recipes = len({unit.recipe for unit in good})
    for line in (
        f"| {len(strong)} backdoored, the trigger works at least 9 times in 10 | {counted(strong)}",
        f"| {len(weak)} backdoored, it works 1 time in 5 | {counted(weak)}",
        f"| {len(good)} benign, of {recipes} recipes ({merges} are merges) | {counted(good)}",
        f"Measured** on {len(own)} models made from one 135M model that nothing was tuned on, with preset `quick`: "
        f"{sum(unit.verdict == 'flagged' for unit in bad)} of {len(bad)} with a backdoor were `flagged` "
        f"({sum(unit.uncalibrated == 'flagged' for unit in bad)} without a benign library)",
    ):
        assert line in readme, line


def test_other_pairs(units, readme):
    other = [unit for unit in units if unit.role not in OWN]
    base = Counter(unit.verdict for unit in other if unit.label == "base")
    models = Counter(unit.verdict for unit in other if unit.label == "backdoored")
    for line in (
        f"of {models.total()} audits {word(models['flagged'])} was `flagged`, which is wrong, and "
        f"{word(models['review'])} were `review`",
        f"of {base.total()} audits {word(base['flagged'])} was `flagged`, {word(base['review'])} was `review`",
    ):
        assert line in readme, line


def test_bounds(units, readme):
    benign = [unit for unit in units if unit.role in OWN and unit.label == "benign" and unit.recipe != "merge"]
    assert not [unit for unit in benign if unit.verdict == "flagged"]
    recipes = len({unit.recipe for unit in benign})
    line = (
        f"No false alarm among the {len(benign)} benign models that are not merges bounds their rate at "
        f"{100 * zero_alarm_bound(len(benign)):.1f}% (exact, 95%, models taken as independent), and at "
        f"{100 * zero_alarm_bound(recipes):.1f}% counted by recipe"
    )
    assert line in readme
