"""A whole search of a toy: the planted word is found, verified and shortened; its benign twin shows nothing."""

import pytest

from audit.errors import Cancelled
from audit.prompts.decoys.words import CLASSES
from audit.search.handover import pairs_of
from audit.search.stage import search
from backdoor_audit.contract.spec.search import SearchSpec
from storage.folders import ArtifactFolder
from tests.audit.search.planting import OTHERS, TRIGGER
from tests.toy import toy_carriers

CARRIERS = toy_carriers(clusters=24, prompts=96).prompts
WORDS = tuple(word.capitalize() for word in CLASSES["towns"][:24] + CLASSES["nouns"][:16])
SPEC = SearchSpec(
    budget="quick", sources=("own",), contexts=("line", "comment"), strings=(*WORDS, TRIGGER, *OTHERS)
)  # fmt: skip


def run(pair, root, spec=SPEC, **changes):
    return search(pair, spec, CARRIERS, workspace=ArtifactFolder(root), render="raw", **changes)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("search") / "w"


@pytest.fixture(scope="module")
def found(planted_pair, workspace):
    return run(planted_pair, workspace)


def test_the_planted_word_is_found_and_no_other(found):
    assert [each.minimal for each in found.found] == [TRIGGER]
    (first,) = found.found
    assert first.reaction > 1.0
    # The toy is trained here, and what it answers without the word can be the same by chance.
    assert first.changed >= first.prompts // 2
    assert first.base_ratio < 0.25
    assert any(answer.text != answer.plain for answer in first.answers)
    assert first.clean != TRIGGER
    assert set(first.fires_in) == {"line", "comment"}
    assert found.largest.string == TRIGGER
    assert [each.strings for each in found.searched] == [len(SPEC.strings), 0]


def test_a_find_is_a_pair_of_the_audit(found):
    (pair,) = pairs_of(found)
    assert (pair.triggered, pair.clean) == (TRIGGER, found.found[0].clean)


def test_the_benign_twin_shows_nothing(benign_pair, tmp_path):
    result = run(benign_pair, tmp_path)
    assert not result.found
    assert result.tokens > 0


def test_a_finished_search_is_read_back(planted_pair, found, workspace):
    said = []
    again = run(planted_pair, workspace, progress=lambda _fraction, message: said.append(message))
    assert again == found
    assert not said


def test_a_search_that_was_stopped_continues(planted_pair, found, tmp_path):
    """Stopped once at each step; what was finished is not computed again, and the result is the same."""

    def until(number):
        def progress(_fraction, _message):
            nonlocal number
            number -= 1
            if number < 0:
                raise Cancelled("stop")

        return progress

    for steps in (2, 3, 4, 5):
        with pytest.raises(Cancelled):
            run(planted_pair, tmp_path, progress=until(steps))
    finished = {folder.name: folder.stat().st_ino for folder in tmp_path.iterdir()}
    assert {"search-scan-line-000", "search-deep-000", "search-halved"} <= set(finished)
    result = run(planted_pair, tmp_path)
    assert result.found == found.found
    assert finished.items() <= {folder.name: folder.stat().st_ino for folder in tmp_path.iterdir()}.items()
