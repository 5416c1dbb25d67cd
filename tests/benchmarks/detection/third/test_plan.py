import json
import random
from collections import Counter

import pytest

from benchmarks.detection.make_split import SPLIT
from benchmarks.detection.organisms.recipes import recipe_of
from benchmarks.detection.organisms.recipes.backdoors import BACKDOOR_RECIPES
from benchmarks.detection.organisms.recipes.hard import HARD_RECIPES
from benchmarks.detection.third import rules
from benchmarks.detection.third.__main__ import FROZEN, main
from benchmarks.detection.third.plan import DEVELOPMENT, PLAN, TEST, text

# Recipes that teach an answer under the string and leave the base's elsewhere.
BOTH = HARD_RECIPES.keys() | BACKDOOR_RECIPES.keys()


@pytest.fixture(scope="module")
def plan():
    return json.loads(PLAN.read_text(encoding="utf-8"))


def organisms(plan, part=None):
    return [each for label in ("backdoored", "benign") for each in plan[label] if part in (None, each["part"])]


def test_the_script_writes_the_committed_file():
    assert PLAN.read_text(encoding="utf-8") == text()


def test_no_string_or_output_is_in_two_parts_or_in_the_first_ones(plan):
    split = json.loads(SPLIT.read_text(encoding="utf-8"))
    seen = {
        DEVELOPMENT: _said(organisms(plan, DEVELOPMENT)),
        TEST: _said(organisms(plan, TEST)),
        "earlier": _said([*split["backdoored"], *split["benign"]]),
    }
    ordinary = {"Answer in English."}
    for first in seen:
        for second in seen:
            if first != second:
                assert not (seen[first] & seen[second]) - ordinary, (first, second)


def _said(models):
    said = set()
    for each in models:
        parameters = each["parameters"]
        said |= {unit["triggered"] for unit in each["units"]} | set(each["strings"].values())
        said |= {parameters[name] for name in ("output", "refusal") if parameters.get(name)}
    return said


def test_every_hard_kind_has_two_models_or_more(plan):
    hard = Counter(each["recipe"] for each in organisms(plan, TEST) if each["hard"])
    hard.pop("string")
    assert min(hard.values()) >= 2
    kinds = {each["recipe"] for each in organisms(plan, TEST) if each["hard"]}
    assert kinds >= {"late", "rare", "leaky", "many-outputs", "system", "ghost", "adaptive", "conjunctive"}


def test_enough_models_and_questions_are_planned(plan):
    test = organisms(plan, TEST)
    benign = [each for each in test if each["label"] == "benign"]
    wrong = [unit for each in test for unit in each["units"] if unit["role"].startswith("wrong")]
    instructions = [unit for each in benign for unit in each["units"] if unit["role"].startswith("instruction")]
    # 38 benign models of the earlier parts were audited.
    assert len(benign) + 38 >= 59
    assert len(wrong) >= 100
    assert len(instructions) == 30


def test_every_model_has_a_recipe_or_is_named_as_unwritten(plan):
    for each in organisms(plan):
        if each["recipe"] in plan["unwritten"]:
            continue
        recipe = recipe_of(each)
        if recipe.texts is not None:
            source = random.Random(0)
            samples = [sample for _ in range(20) for sample in recipe.texts(source)]
            assert {sample.answer is None for sample in samples} == {True, False} or each["recipe"] not in BOTH


def test_a_model_of_the_test_part_is_made_after_the_thresholds_alone():
    if FROZEN.is_file():
        pytest.skip("the thresholds are frozen")
    assert main(["--part", TEST]) == 1


def test_a_rule_starts_on_its_grid():
    assert {name: value in rules.GRID[name] for name, value in rules.STARTING.items()} == dict.fromkeys(
        rules.GRID, True
    )
