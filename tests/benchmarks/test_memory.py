import numpy as np

from benchmarks.memory import child, compare, in_a_process, peak_bytes


def test_the_peak_includes_what_was_freed():
    before = peak_bytes()
    block = np.ones(64 * 2**20, dtype=np.uint8)
    del block
    # Other tests may have left a higher peak behind.
    assert peak_bytes() >= max(before, 64 * 2**20)


def test_a_process_of_its_own_measures_itself(toy_base, toy_adapter):
    # Without a process of its own the peak would be that of the tests, at least.
    ballast = np.ones(2**30, dtype=np.uint8)
    pair = in_a_process("pair", toy_base, toy_adapter, 2, threads=1, budget=4096)
    assert len(ballast) > pair["peak"] > pair["imported"] > pair["activations"] > 0


def test_one_model_keeps_nothing(toy_base, toy_adapter):
    found = child("one", toy_base, toy_adapter, 2, 1, 4096)
    assert found["activations"] == 0
    assert found["peak"] >= found["imported"] > 0


def test_activations_and_imports_are_taken_off():
    one = {"imported": 400, "peak": 700, "activations": 0}
    pair = {"imported": 400, "peak": 860, "activations": 100}
    figures = compare(one, pair)
    assert (figures["ratio"], figures["ratio_without_imports"]) == (1.086, 1.2)
