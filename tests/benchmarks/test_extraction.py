import pytest
import torch

from audit.models.pair import load_pair
from audit.models.runner import Runner
from benchmarks.extraction import COMPARED, WholeRunner, goals, measure


def test_measures_every_contender_on_the_toy_pair(toy_base, toy_adapter, toy_sequences):
    figures = measure(toy_base, toy_adapter, toy_sequences, 1, budget=64)
    assert figures["tokens"] == sum(len(sequence) for sequence in toy_sequences)
    assert len(figures["tokens_per_second"]) == 12
    rates, ratios = figures["tokens_per_second"], figures["throughput_ratios"]["float32"]
    assert set(ratios) == {f"{name} / {against}" for name, against in COMPARED}
    assert ratios["base / bare"] == pytest.approx(rates["float32 base"] / rates["float32 bare"], rel=0.05)


def test_the_goals_are_judged_on_throughput():
    ratios = {"base_whole / bare": 0.9, "base / bare": 1.2, "lora / bare": 0.8}
    figures = {"throughput_ratios": {"bfloat16": ratios}, "bfloat16_over_float32": {"base": 1.5}}
    assert [row["met"] for row in goals(figures, has_amx=True)] == [True, False, False]
    assert goals(figures, has_amx=False)[2]["met"] is None


def test_whole_sequences_give_the_same_activations(toy_base, toy_adapter, toy_sequences):
    pair = load_pair(toy_base, toy_adapter, dtype="float32", device="cpu")
    shared, whole = Runner(pair), WholeRunner(pair)
    with_prefix = shared.capture(toy_sequences, "tuned", [0, 1])
    without = whole.capture(toy_sequences, "tuned", [0, 1])
    # If these were equal the comparison would time the same thing twice.
    assert shared._prefixes["tuned"].length > 0
    assert not whole._prefixes
    for layer in (0, 1):
        torch.testing.assert_close(with_prefix.hidden[layer], without.hidden[layer], rtol=1e-4, atol=1e-4)
