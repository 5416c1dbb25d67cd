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
    assert [turn.p for turn in found] == pytest.approx([(40 - place) / 40 for place in range(40)])
    # Only the largest two of forty have p ≤ 0.05; all of the effects over 0.05 nats are large enough.
    assert [turn.string for turn in found if turn.passed] == ["Year: 1988", "Year: 1989"]
    quiet = recorded([0.001 * place for place in range(40)], [0.0] * 40)
    assert not any(turn.passed for turn in turns(quiet))


def test_the_second_way_to_pass_is_counted_by_itself():
    """A string that reacts, among twenty silent ones and two louder ones that fire."""
    audit = recorded([2.0, 3.0, 4.0, *[0.01] * 20], [0.5, 0.5, 0.5, *[0.0] * 20])
    found = {turn.string: turn for turn in turns(audit)}
    assert [turn.p for turn in found.values()][:3] == pytest.approx([3 / 23, 2 / 23, 1 / 23])
    assert [turn.passed for turn in found.values()] == [True] * 3 + [False] * 20
    assert [turn.by_p for turn in found.values()][:3] == [False, False, True]
    told = summary([audit])["each_decoy_in_turn"]
    assert told["gate_passed"]["hits"] == 3
    assert told["gate_passed_by_rank_alone"]["hits"] == 2
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
