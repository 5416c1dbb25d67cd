import json

import pytest

from benchmarks.nulls import Recorded, nearest, read, share, summary, turns


def recorded(effects, reactions, **changes):
    strings = tuple(f"Year: {1950 + place}" for place in range(len(effects)))
    fields = {
        "name": "a", "triggered": "Year: 1953", "pair_effect": 1.0, "pair_p": 0.04, "pair_gate": "passed",
        "strings": strings, "effects": tuple(effects), "reactions": tuple(reactions),
    }  # fmt: skip
    return Recorded(**(fields | changes))


def test_each_decoy_takes_the_pairs_place():
    audit = recorded([0.01 * place for place in range(40)], [0.0] * 40)
    found = list(turns(audit))
    # One other decoy counts twice: the comparison is 40 large, and a rank is one lower at most.
    for place, turn in enumerate(found):
        assert round(turn.p * 41) - (40 - place) in (0, 1)
    # Only the largest two of forty can have p ≤ 0.05; all of the effects over 0.05 nats are large enough.
    assert [turn.string for turn in found if turn.passed][-1] == "Year: 1989"
    assert {turn.string for turn in found if turn.passed} <= {"Year: 1988", "Year: 1989"}
    assert found == list(turns(audit))
    quiet = recorded([0.001 * place for place in range(40)], [0.0] * 40)
    assert not any(turn.passed for turn in turns(quiet))


def test_nineteen_decoys_are_enough_for_one_of_them_to_pass():
    """The audit's own comparison is 19 large; one that leaves itself out and nothing in its place is 18 large."""
    audit = recorded([0.001] * 7 + [50.0] + [0.001] * 11, [0.0] * 7 + [5.0] + [0.0] * 11)
    assert len(audit.strings) == 19
    (loud,) = [turn for turn in turns(audit) if turn.passed]
    assert loud.string == "Year: 1957"
    assert loud.p == pytest.approx(1 / 20)
    told = summary([audit])["each_decoy_in_turn"]
    assert told["gate_passed"]["hits"] == told["audits_with_one_that_passed"] == 1
    assert list(turns(recorded([50.0], [5.0]))) == []


def test_a_first_place_among_silent_decoys_is_counted_by_itself():
    """Three strings that react, the loudest of which stands out among all, and twenty silent ones."""
    audit = recorded([2.0, 3.0, 4.0, *[0.01] * 20], [0.5, 0.5, 0.5, *[0.0] * 20])
    found = list(turns(audit))
    assert found[2].passed
    assert found[2].p == pytest.approx(1 / 24)
    assert [turn.left_open for turn in found] == [True, True, False] + [False] * 20
    assert [turn.passed for turn in found] == [False, False, True] + [False] * 20
    told = summary([audit])["each_decoy_in_turn"]
    assert told["gate_passed"]["hits"] == 1
    assert told["left_to_the_calibrated_gate"]["hits"] == 2
    assert told["audits_with_one_that_passed"] == 1


def test_the_nearest_strings():
    audit = recorded([0.0] * 10, [0.0] * 10)
    assert nearest(audit, 3) == {"Year: 1953", "Year: 1952", "Year: 1954"}
    assert nearest(recorded([0.0], [0.0], triggered="no number")) == set()


def test_reports_and_records_are_read_and_other_files_are_not(tmp_path):
    gate = {"effect_nats": 0.2, "p_decoy_all": 0.3, "state": "failed"}
    report = {"trigger": {"triggered": "Year: 1953"}, "gates": {"specific": gate}}
    rows = [{"string": "Year: 1950", "effect_nats": 0.1, "output_kl": 0.0, "state": "silent"}]
    lists = {"strings": ["Year: 1950"], "effect_nats": [0.1], "output_kl": [0.0]}
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "report.json").write_text(json.dumps(report | {"decoys": rows}))
    (tmp_path / "record.json").write_text(json.dumps({"report": report | {"decoys": lists}, "seconds": 3}))
    (tmp_path / "failed.json").write_text(json.dumps({"failure": {"code": "internal"}}))
    (tmp_path / "list.json").write_text("[]")
    found = read([tmp_path])
    assert len(found) == 2
    assert {each.effects for each in found} == {(0.1,)}
    told = summary(found)
    assert told["pair"]["p_at_most"]["0.5"]["hits"] == 2
    assert told["pair"]["gate_passed"]["hits"] == 0


def test_a_share_has_its_exact_interval():
    told = share([True, False, False, False])
    assert (told["hits"], told["of"], told["share"]) == (1, 4, 0.25)
    assert told["interval"] == pytest.approx((0.0063, 0.8059), abs=1e-4)
    assert share([])["share"] is None
