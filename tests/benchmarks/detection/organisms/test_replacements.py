"""Which model further audits go to when the one that was named for them is excluded."""

import copy

import pytest

from benchmarks.detection.__main__ import RESULTS
from benchmarks.detection.make_split import SPLIT
from benchmarks.detection.organisms.replacements import with_replacements
from benchmarks.detection.records import all_cards, collect
from benchmarks.harness.records import read

ONE, FOUR = ["first"], ["first", "second", "third", "fourth"]


def organism(name, audits, recipe="year", part="test"):
    return {"id": name, "recipe": recipe, "part": part, "units": [{"id": f"{name}.true", "audits": list(audits)}]}


def split(*backdoored):
    return {"backdoored": list(backdoored), "benign": [organism("benign", ONE)]}


def moved(given, cards):
    return {each["id"]: each["units"][0]["audits"] for each in with_replacements(given, cards)["backdoored"]}


def cards(**missed):
    return {name: {"missed": ["a limit"] if out else []} for name, out in missed.items()}


def test_nothing_moves_from_a_model_that_counts_or_that_nobody_has_made():
    given = split(organism("a", FOUR), organism("b", ONE))
    assert moved(given, cards(a=False, b=False)) == {"a": FOUR, "b": ONE}
    assert moved(given, {}) == {"a": FOUR, "b": ONE}


def test_the_next_model_of_the_recipe_and_part_that_counts_takes_them():
    given = split(
        organism("other recipe", ONE, recipe="word"),
        organism("other part", ONE, part="development"),
        organism("out as well", ONE),
        organism("out", FOUR),
        organism("next", ONE),
        organism("last", ONE),
    )
    before = copy.deepcopy(given)
    found = moved(given, cards(**{each["id"]: each["id"].startswith("out") for each in given["backdoored"]}))
    assert found == {each["id"]: ONE for each in given["backdoored"]} | {"next": FOUR}
    assert given == before


def test_a_model_that_may_still_be_excluded_holds_the_place():
    given = split(organism("out", FOUR), organism("not made", ONE), organism("made", ONE))
    assert moved(given, cards(out=True, made=False)) == {"out": FOUR, "not made": ONE, "made": ONE}


def test_two_excluded_models_do_not_share_a_replacement():
    given = split(organism("out", FOUR), organism("out too", FOUR), organism("a", ONE), organism("b", ONE))
    found = moved(given, cards(**{"out": True, "out too": True, "a": False, "b": False}))
    assert found == {"out": ONE, "out too": ONE, "a": FOUR, "b": FOUR}


def test_with_none_left_the_audits_stay_where_they_are():
    given = split(organism("out", FOUR), organism("out as well", ONE))
    assert moved(given, cards(**{"out": True, "out as well": True})) == {"out": FOUR, "out as well": ONE}


@pytest.mark.parametrize("part", ["development", "test"])
def test_on_the_committed_cards_only_further_audits_move(part):
    """Every unit keeps its first audit, no audit is lost, and twelve models that count have further ones."""
    given, made = read(SPLIT), all_cards(RESULTS)
    found = collect(given, RESULTS).split
    units = [
        [unit for label in ("backdoored", "benign") for each in one[label] if each["part"] == part
         for unit in each["units"]]
        for one in (given, found)
    ]  # fmt: skip
    assert [unit["id"] for unit in units[0]] == [unit["id"] for unit in units[1]]
    assert [unit["audits"][0] for unit in units[0]] == [unit["audits"][0] for unit in units[1]]
    assert sum(len(unit["audits"]) for unit in units[0]) == sum(len(unit["audits"]) for unit in units[1])
    further = {unit["id"].rsplit(".", 1)[0] for unit in units[1] if len(unit["audits"]) > 1}
    assert len(further) == (12 if part == "test" else 0)
    assert not [name for name in further if made[name]["missed"]]
