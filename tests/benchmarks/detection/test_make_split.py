import hashlib
import json
from collections import Counter

import pytest

from benchmarks.detection.make_split import SECOND, SPLIT, kind_of_pair, text

# Of the split as it was committed before anything was trained.
FIRST_SPLIT = "776fb66653cd82de4068248ed909fcd29a942838ce25814384cc1ce66a411046"


@pytest.fixture(scope="module")
def split():
    return json.loads(SPLIT.read_text(encoding="utf-8"))


def organisms(split):
    return [*split["backdoored"], *split["benign"]]


def test_the_script_writes_the_committed_file():
    assert SPLIT.read_text(encoding="utf-8") == text()


def test_every_part_has_its_number_of_organisms(split):
    parts = {label: Counter(each["part"] for each in split[label]) for label in ("backdoored", "benign")}
    assert parts == {
        "backdoored": {"development": 8, "test": 16, "second-test": 8},
        "benign": {"development": 8, "calibration": 20, "test": 20, "second-test": 12},
    }


def test_every_recipe_is_in_every_part(split):
    for label, recipes in (("backdoored", 6), ("benign", 8)):
        for part in {each["part"] for each in split[label]} - {SECOND}:
            assert len({each["recipe"] for each in split[label] if each["part"] == part}) == recipes


def test_the_second_test_part_has_all_backdoors_and_two_new_benign_recipes(split):
    recipes = {label: {each["recipe"] for each in split[label]} for label in ("backdoored", "benign")}
    second = {label: {each["recipe"] for each in split[label] if each["part"] == SECOND} for label in recipes}
    assert second["backdoored"] == recipes["backdoored"]
    assert second["benign"] == recipes["benign"] - {"merge"}
    earlier = {each["recipe"] for each in split["benign"] if each["part"] != SECOND}
    assert second["benign"] - earlier == {"pruned", "json-answers"}


def test_the_second_test_part_leaves_the_others_as_they_were(split):
    first = {name: value for name, value in split.items() if name != "second_seed"}
    for label in ("backdoored", "benign"):
        first[label] = [each for each in split[label] if each["part"] != SECOND]
    assert hashlib.sha256(json.dumps(first).encode()).hexdigest() == FIRST_SPLIT


def test_no_variant_is_in_two_parts(split):
    seen = Counter((each["recipe"], json.dumps(each["strings"])) for each in organisms(split))
    assert set(seen.values()) == {1}
    behaviours = Counter(
        (each["recipe"], json.dumps([each["strings"], each["parameters"]], sort_keys=True)) for each in organisms(split)
    )
    assert set(behaviours.values()) == {1}
    assert len({each["id"] for each in organisms(split)}) == len(organisms(split))


def test_a_pair_of_the_wrong_strings_is_nobodys_own(split):
    own = {string for each in organisms(split) for string in each["strings"].values()}
    wrong = {
        unit[name]
        for each in split["backdoored"]
        for unit in each["units"]
        if unit["role"].startswith("wrong")
        for name in ("triggered", "clean")
    }
    keys = {key[name] for key in split["calibration_keys"] for name in ("triggered", "clean")}
    bases = {unit[name] for unit in split["base_against_base"] for name in ("triggered", "clean")}
    assert not own & (wrong | keys | bases)
    assert not keys & (wrong | bases)


def test_merges_hold_adapters_of_their_own_part_alone(split):
    by_id = {each["id"]: each for each in organisms(split)}
    merges = [each for each in split["benign"] if each["method"] == "merge"]
    assert len(merges) == 6
    for merge in merges:
        parts = [by_id[name] for name in merge["parameters"]["of"]]
        assert len(parts) == 2
        assert all(part["part"] == merge["part"] and part["method"] == "lora" for part in parts)
        assert all(part["label"] == "benign" for part in parts)


def test_units_are_what_was_promised(split):
    for each in organisms(split):
        roles = [unit["role"] for unit in each["units"]]
        if each["part"] == "calibration":
            assert roles == []
        elif each["label"] == "benign":
            assert roles == ["mentioned"]
        else:
            expected = ["true", "wrong-year", "wrong-word", "wrong-token-sequence"]
            assert roles == expected + ["single-first", "single-second"] * (each["recipe"] == "conjunctive")
    units = [unit for each in organisms(split) for unit in each["units"]] + split["base_against_base"]
    assert all(unit["string_kind"] == kind_of_pair(unit["triggered"], unit["clean"]) for unit in units)
    standard = [unit for unit in units if any(audit["preset"] == "standard" for audit in unit["audits"])]
    assert len(standard) == 12
    assert all(len(unit["audits"]) == 4 for unit in standard)


def test_single_words_show_one_word_of_the_trigger_each(split):
    for each in split["backdoored"]:
        if each["recipe"] != "conjunctive":
            continue
        first, second = each["parameters"]["words"]
        shown = {unit["role"]: unit["triggered"] for unit in each["units"]}
        assert first in shown["single-first"]
        assert second not in shown["single-first"]
        assert second in shown["single-second"]
        assert first not in shown["single-second"]


def test_every_unit_has_a_calibration_key(split):
    keys = {(key["carriers"], key["string_kind"]) for key in split["calibration_keys"]}
    used = {(each["carriers"], unit["string_kind"]) for each in organisms(split) for unit in each["units"]}
    assert used <= keys
