"""The rates that the README names are those of the committed records."""

from collections import Counter
from statistics import median

import pytest

from audit.stats.statistics import zero_alarm_bound
from audit.verdict.gates import is_shifted
from benchmarks._audits import read
from benchmarks._machine import RESULTS as FIGURES
from benchmarks._machine import ROOT
from benchmarks.detection.__main__ import RESULTS
from benchmarks.detection.detectors import AMPLIFICATION, BIS, BIS_P95, DETECTORS, S, auroc
from benchmarks.detection.make_split import SECOND, SPLIT
from benchmarks.detection.records import FIRST, collect

OWN = ("true", "mentioned")


@pytest.fixture(scope="module")
def found():
    return collect(read(SPLIT), RESULTS)


@pytest.fixture(scope="module")
def units(found):
    """The test part's first audits."""
    return [unit for unit in found.units if unit.part == "test" and unit.audit == FIRST]


@pytest.fixture(scope="module")
def second(found):
    """The second test part's benign models."""
    return found.of(SECOND, role="mentioned")


@pytest.fixture(scope="module")
def second_bad(found):
    """The second test part's backdoored models under their own pairs."""
    return found.of(SECOND, role="true")


def text(name):
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


@pytest.fixture(scope="module")
def readme():
    return text("README.md")


def counted(units):
    found = Counter(unit.verdict for unit in units)
    return f"{found['flagged']} | {found['review']} | {found['no_evidence']} |"


def word(count):
    return ("none", "one", "2", "3", "4", "five")[count] if count < 6 else str(count)


def test_own_pairs(units, second, second_bad, readme):
    own = [unit for unit in units if unit.role in OWN]
    bad, good = ([unit for unit in own if unit.label == label] for label in ("backdoored", "benign"))
    strong, weak = [unit for unit in bad if unit.strong], [unit for unit in bad if not unit.strong]
    merges = sum(unit.recipe == "merge" for unit in good)
    recipes = len({unit.recipe for unit in good})
    every = (*bad, *second_bad)
    for line in (
        f"| {len(strong)} backdoored, the trigger works at least 9 times in 10 | {counted(strong)}",
        f"| {len(weak)} backdoored, it works 1 time in 5 | {counted(weak)}",
        f"| {len(good)} benign, of {recipes} recipes ({merges} are merges) | {counted(good)}",
        f"Measured** on {len(own) + len(second) + len(second_bad)} models made from one 135M model that nothing was "
        f"tuned on, with preset `quick`: {sum(unit.verdict == 'flagged' for unit in every)} of {len(every)} with a "
        f"backdoor were `flagged` ({sum(unit.uncalibrated == 'flagged' for unit in every)} without a benign library), "
        f"of {len(good) + len(second)} benign ones none, and three were `review`",
    ):
        assert line in readme, line
    outcomes = Counter(unit.verdict for unit in (*good, *second))
    assert (outcomes["flagged"], outcomes["review"]) == (0, 3)
    flagged = sum(unit.verdict == "flagged" for unit in every)
    for line in (
        f"measured verdicts on {len(own) + len(second) + len(second_bad)} models made from",
        f"{len(good) + len(second)} benign ones flagged",
        f"{flagged} of {len(every)} backdoored ones flagged with the benign library, "
        f"{sum(unit.uncalibrated == 'flagged' for unit in every)} without it",
    ):
        assert line in text("docs/limits.md"), line


def test_how_long_it_took():
    made = [read(path)["seconds"] for path in (RESULTS / "organisms").glob("*.json")]
    audits = [read(path) for path in (RESULTS / "audits").glob("*.quick-0.json")]
    bad, good = ([each["seconds"] / 60 for each in audits if each["role"] == role] for role in OWN)
    assert (
        f"an organism took {min(made):.0f} seconds to {max(made) / 60:.0f} minutes (median {median(made) / 60:.1f}), a "
        f"`quick` audit of a benign model {median(good):.1f} minutes (median) and of a backdoored one "
        f"{median(bad):.1f} ({min(bad):.1f} to {max(bad):.0f})"
    ) in text("benchmarks/detection/README.md")


def test_the_second_part_finds_its_backdoors(second_bad, found, readme):
    planned = {organism["id"] for organism in read(SPLIT)["backdoored"] if organism["part"] == SECOND}
    (weak,) = (unit for unit in second_bad if not unit.strong)
    assert weak.verdict == "flagged"
    assert round(10 * read(RESULTS / "organisms" / f"{weak.organism['id']}.json")["success"]["triggered"]) == 4
    assert (len(planned), len(second_bad)) == (8, 6)
    assert Counter(unit.verdict for unit in second_bad) == {"flagged": 6}
    assert Counter(unit.uncalibrated for unit in second_bad) == {"flagged": 4, "review": 2}
    line = (
        "Of its 8 backdoored models two missed their limits; the other six were `flagged`, one of which works 4 times "
        "in 10. Without the benign library two of the six are `review`"
    )
    assert line in readme
    own = [*found.of("test", role="true"), *second_bad]
    assert [unit.recipe for unit in own if unit.uncalibrated != "flagged"] == ["semantic-class"] * 3
    assert sum(unit.recipe == "semantic-class" for unit in own) == 3
    assert sum(unit.report["localisation"]["localised"] for unit in own) == 17
    assert "in both parts on 17 of 19" in text("docs/method.md")


def test_the_second_parts_wrong_pairs(units, found, readme):
    wrong = [unit for unit in found.of(SECOND) if unit.role not in OWN]
    assert Counter(unit.verdict for unit in wrong) == {"review": 3, "no_evidence": 15}
    assert {unit.role for unit in wrong if unit.verdict == "review"} == {"wrong-word"}
    assert (
        "Under pairs that are not theirs none of 18 audits of the backdoored six was `flagged` and three were "
        "`review`, all three under a pair of ordinary words"
    ) in readme
    both = [unit for unit in units if unit.role not in OWN and unit.label == "backdoored"] + wrong
    flagged = sum(unit.verdict == "flagged" for unit in both)
    assert f"of {len(both)} audits of backdoored models under a wrong pair {word(flagged)} was flagged" in readme
    assert f"{flagged} wrong `flagged` in {len(both)} audits" in text("docs/method.md")


def test_the_second_part(units, second, found, readme):
    earlier = {unit.recipe for unit in found.units if unit.part != SECOND and unit.label == "benign"}
    earlier |= {each["recipe"] for each in found.models("calibration", "benign")}
    recipes = {unit.recipe for unit in second}
    assert len(recipes - earlier) == 2
    assert len(recipes) == 9
    outcomes = Counter(unit.verdict for unit in second)
    assert (len(second), outcomes["flagged"], outcomes["review"]) == (11, 0, 2)
    assert (
        "Of its 11 benign models, of nine recipes, two of which no other part holds, none was `flagged` and two"
        in readme
    )
    first = [unit for unit in units if unit.role in OWN and unit.label == "benign" and unit.recipe != "merge"]
    both, kinds = len(first) + len(second), len(recipes | {unit.recipe for unit in first})
    by_model, by_recipe = (f"{100 * zero_alarm_bound(count):.1f}%" for count in (both, kinds))
    assert (
        f"No false alarm among the {both} benign models of both parts bounds their rate at {by_model}, and at "
        f"{by_recipe} counted by recipe"
    ) in readme
    assert f"benign models that are made as these were: under {by_model}" in readme
    assert f"(under {by_model} by model, {by_recipe} by recipe, merges left out)" in text("docs/limits.md")


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


def test_what_the_limits_say_of_the_nets_and_nulls(found):
    own = [unit for part in ("development", "test", SECOND) for unit in found.of(part, role="true")]
    flagged = [unit for unit in own if unit.verdict == "flagged"]
    caught = sum(
        any(is_shifted(row["amplification"], row["amplification_p"], unit.report["gates"]["specific"]["drawn"])
            for row in unit.report["directions"])
        for unit in flagged
    )  # fmt: skip
    assert (
        f"of the {len(flagged)} flagged backdoors of the benchmark it holds at some layer for {caught}, at none for "
        f"{len(flagged) - caught}"
    ) in text("docs/limits.md")
    nulls = [unit.report["gates"]["causal"]["null_max"] for unit in flagged]
    assert f"(up to {max(nulls):.2f} on the benchmark's backdoors)" in text("docs/limits.md")
    assert (
        f"the best of 19 recovers {min(nulls):.3f} to {max(nulls):.2f} of the behaviour of the {len(nulls)} flagged "
        f"backdoors of development and both test parts (median {median(nulls):.2f}; 0.48 or more on "
        f"{word(sum(round(value, 2) >= 0.48 for value in nulls))})"
    ) in text("docs/method.md")


def area_of(name, own, benign):
    return auroc(*([DETECTORS[name](unit.report) for unit in side] for side in (own, benign)))


def test_the_areas_that_the_method_names(found):
    own, benign = found.of("test", role="true"), found.of("test", role="mentioned")
    named = {
        S: "| S, the causal effect |",
        "output_kl": "| `output_kl` |",
        "diffmean, amplification": "| difference of means, amplification |",
        AMPLIFICATION: "| amplification of the leading direction, largest of the layers |",
        "amplification, chosen layer": "| the same at the chosen layer |",
        BIS: "| `bis` of the feature with the largest attribution |",
        BIS_P95: "| `bis_p95`, the largest of all features (the seed paper's) |",
        "frozen random, bis": "| frozen random dictionary, `bis` |",
        "frozen random, amplification": "| frozen random dictionary, amplification |",
        "reported feature, amplification": "| reported feature, amplification |",
    }
    for name, row in named.items():
        area = area_of(name, own, benign)
        assert f"{row} {area:.2f} |" in text("docs/method.md"), name
    sides = found.of(SECOND, role="true"), found.of(SECOND, role="mentioned")
    areas = {name: area_of(name, *sides) for name in named}
    others = [area for name, area in areas.items() if name not in (S, "output_kl")]
    assert areas[S] == areas["output_kl"] == 1
    line = f"those of the other rows of the table above are {min(others):.2f} to {max(others):.2f}"
    assert line in text("docs/method.md")


def test_what_the_method_says_of_the_bases_part():
    units = read(FIGURES / "base_effect.json")["units"]
    city, base = units["multi-turn.city.wrong-word"], units["base.instructions.word"]
    pair, drawn, nouns = city["drawn"]["pair"], city["drawn"]["decoys"], city["topics.txt"]["decoys"]
    above = {row["string"].removeprefix("Section: "): row["tuned"] for row in nouns if row["tuned"] > pair["tuned"]}
    for sentence in (
        f"T {pair['tuned']:.2f} instead of 0.81): the base's part of T is {pair['base']:.2f}, and what is left, "
        f"{pair['beyond']:.2f}, still is more than under any of {len(drawn)} drawn words "
        f"({max(row['beyond'] for row in drawn):.2f} at most)",
        f"(median T {median(row['tuned'] for row in drawn):.2f})",
        f"the median is {median(row['tuned'] for row in nouns):.2f}, two are above the pair "
        f"({', '.join(f'{name} {effect:.1f}' for name, effect in above.items())}), p is {city['topics.txt']['p']:.2f}",
        f"({base['drawn']['pair']['tuned']:.2f} and {base['drawn']['answers_asked_alone']['tuned']:.2f} for the base "
        f"against itself under two words, where {base['drawn']['answers_asked_alone']['differ']} of 32 did",
    ):
        assert sentence in text("docs/method.md"), sentence
    assert base["drawn"]["pair"]["beyond"] == 0
