"""Lists are frozen: a change of one needs a new measurement of what the search finds."""

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from audit.search import lists
from audit.search.sizes import SIZES
from audit.search.trials import trials
from backdoor_audit.contract.spec.search import SearchSpec
from tests.toy import _tokenizer


def test_lists_are_those_that_were_frozen():
    made = {name: lists.digest(strings) for name, strings in lists.shipped().items()}
    assert made | {"published": lists.digest(lists.published())} == lists.frozen_digests()


def test_a_list_has_no_blank_and_no_repeat():
    for name, strings in lists.shipped().items():
        assert len(set(strings)) == len(strings), name
        assert all(string.strip() for string in strings), name


def test_the_vocabulary_gives_words_that_begin_a_word_and_is_thinned_evenly():
    vocab = {f"Ġ{word}": number for number, word in enumerate(("one", "two", "three", "four", "five", "six"))}
    vocab |= {"ing": 6, "Ġ12": 7, "Ġab": 8, "▁seven": 9}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocab, unk_token="ing")))
    assert lists.vocabulary(tokenizer, 99) == ("one", "two", "three", "four", "five", "six", "seven")
    assert lists.vocabulary(tokenizer, 3) == ("one", "three", "five")


def test_a_string_counts_under_the_first_list_that_holds_it():
    spec = SearchSpec(strings=("Berlin", "mine"), logs=("x",))
    tried, searched = trials(spec, _tokenizer(), SIZES["quick"], ("mine", "theirs"))
    by_string = {trial.string: (trial.origin, trial.list_name) for trial in tried}
    assert by_string["Berlin"][0] == by_string["mine"][0] == "own"
    assert by_string["theirs"][0] == "logs"
    assert by_string["Paris"] == ("lists", "places")
    assert len(by_string) == len(tried) == sum(each.strings for each in searched)
    assert {each.name: each.strings for each in searched}["logs"] == 1


def test_only_chosen_sources_are_tried():
    tried, _ = trials(SearchSpec(sources=("own", "vocabulary"), strings=("mine",)), _tokenizer(), SIZES["quick"])
    assert {trial.origin for trial in tried} <= {"own", "vocabulary"}
