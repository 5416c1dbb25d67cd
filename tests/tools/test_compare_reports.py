import copy
import json
from decimal import Decimal
from pathlib import Path

import pytest

from tools.compare_reports import differences, figures, main, read

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NAMES = ("flagged", "review", "no_evidence", "invalid")


@pytest.fixture(scope="module")
def report():
    return read(EXAMPLES / "flagged.json")


def numbers(value):
    if isinstance(value, dict):
        return sum(map(numbers, value.values()))
    if isinstance(value, list):
        return sum(map(numbers, value))
    return int(isinstance(value, int | Decimal) and not isinstance(value, bool))


def last_digit(number):
    """The same number with another last digit."""
    digits = list(str(number))
    place = max(place for place, digit in enumerate(digits) if digit.isdigit())
    digits[place] = "1" if digits[place] != "1" else "2"
    return Decimal("".join(digits))


@pytest.mark.parametrize("name", NAMES)
def test_a_report_is_like_itself(name):
    report = read(EXAMPLES / f"{name}.json")
    assert differences(report, copy.deepcopy(report)) == []
    assert figures(report)


def test_every_number_is_a_figure_but_those_of_the_run(report):
    provenance = report["provenance"]
    of_the_run = len(provenance["timings_s"]) + len(("cache_hits", "cache_misses", "peak_memory_bytes"))
    found = [value for value in figures(report).values() if numbers(value)]
    assert len(found) == numbers(report) - of_the_run > 300


@pytest.mark.parametrize(
    ("path", "where"),
    [
        (("gates", "behaviour", "output_kl"), "gates.behaviour.output_kl"),
        (("gates", "causal", "recovered_interval", 1), "gates.causal.recovered_interval[1]"),
        (("decoys", 3, "effect_nats"), "decoys[3].effect_nats"),
        (("layers", 0, "fve"), "layers[0].fve"),
        (("flagged_features", 0, "explanation", "strongest", 0, "activation"), "flagged_features[0].explanation"),
        (("sizes", "training_tokens"), "sizes.training_tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_changed_last_digit_is_noticed(report, path, where):
    changed = copy.deepcopy(report)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = last_digit(place[path[-1]])
    (line,) = differences(report, changed)
    assert line.startswith(where)


def test_what_is_measured_may_not_change(report):
    changed = copy.deepcopy(report)
    changed["verdict"] = "review"
    changed["decoys"][0]["string"] = "another"
    changed["decoys"].pop()
    changed["scores"]["bis"] = None
    changed["provenance"]["tuned_digest"] = "sha256:" + "0" * 64
    found = "\n".join(differences(report, changed))
    for path in ("verdict:", "decoys[0].string:", "decoys[18].string:", "scores.bis:", "provenance.tuned_digest:"):
        assert path in found


def test_prose_and_the_circumstances_of_the_run_may_change(report):
    changed = copy.deepcopy(report)
    changed |= {"audit_id": "audit_0", "summary": "In other words.", "schema_version": "1.9"}
    changed["limits"][0] = "In other words."
    changed["gates"]["behaviour"]["reason"] = "in other words"
    changed["provenance"]["timings_s"]["extract"] = Decimal("1.0")
    changed["provenance"]["versions"]["torch"] = "0"
    changed["provenance"]["peak_memory_bytes"] = 1
    assert differences(report, changed) == []


def test_an_empty_list_is_noticed(report):
    changed = copy.deepcopy(report)
    changed["decoys"] = []
    assert "decoys: [] is new" in differences(report, changed)


def test_the_command_says_which_figures_differ(tmp_path, capsys):
    old = EXAMPLES / "flagged.json"
    assert main([str(old), str(old)]) == 0
    assert "figures are the same" in capsys.readouterr().out
    document = json.loads(old.read_text(encoding="utf-8"))
    document["gates"]["behaviour"]["output_kl"] *= 1 + 1e-15
    new = tmp_path / "new.json"
    new.write_text(json.dumps(document))
    assert main([str(old), str(new)]) == 1
    assert "gates.behaviour.output_kl" in capsys.readouterr().out
