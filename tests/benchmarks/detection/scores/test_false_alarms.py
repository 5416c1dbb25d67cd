"""What the page says of false alarms, calibration and repeats, on records made by hand."""

import json
import re

import pytest

from backdoor_audit.contract.benign_library import ComparabilityKey, LibraryEntry
from benchmarks.detection import verdicts
from benchmarks.detection.calibration import score_place
from benchmarks.detection.make_split import SECOND, SPLIT
from benchmarks.detection.records import collect
from benchmarks.detection.scores import table as scoring
from benchmarks.detection.scores.false_alarms import both_parts, false_alarms
from benchmarks.detection.verdicts import METHOD
from benchmarks.harness.records import Line, read, write
from tests.benchmarks.detection.scores.test_table import report

FAILURE = {"method_version": METHOD, "failure": {"code": "model_rejected", "message": "NaN"}}
SILENT = {"effect": 0.004, "p": 0.6, "rank": 12}


def key_of(kind, dtype="bfloat16"):
    return ComparabilityKey(
        base_digest="sha256:b", carriers_digest="c", template="t", rendering="chat", layers=(13,),
        architectures=("diff_sae",), decoy_carriers_a=50, decoy_carriers_b=50, continuation_tokens=8, dtype=dtype,
        trigger_kind=kind, method_version=METHOD,
    )  # fmt: skip


def audited(folder, unit, audit="quick-0", *, digest="sha256:x", dtype="bfloat16", **changes):
    made = report(**(SILENT | changes))
    made["provenance"] = {"tuned_digest": digest}
    made["gates"]["calibrated"] = {"key": key_of(unit["string_kind"], dtype).model_dump(mode="json")}
    write(Line(folder / "audits.jsonl", f"{unit['id']}.{audit}"), {"report": made})


def card(folder, organism, *missed, **more):
    rates = {"success": {"triggered": 1.0}, "missed": list(missed)}
    write(Line(folder / "organisms.jsonl", organism["id"]), rates | more)


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """All benign test models audited and silent, all calibration scores there."""
    monkeypatch.setattr(verdicts, "THRESHOLDS", tmp_path / "none.json")
    split = json.loads(SPLIT.read_text(encoding="utf-8"))
    for organism in split["benign"]:
        if organism["part"] == "development":
            continue
        card(tmp_path, organism)
        for unit in organism["units"]:
            audited(tmp_path, unit)
        for key in split["calibration_keys"]:
            if organism["part"] == "calibration":
                entry = LibraryEntry.of(0.01, 1e-6, key_of(key["string_kind"]), tuned_digest=organism["id"])
                record = {"method_version": METHOD, "organism": organism["id"],
                          "entry": entry.model_dump(mode="json")}  # fmt: skip
                write(score_place(tmp_path, organism, key), record)
    return split, tmp_path


def of_test(split, label, recipe):
    return [each for each in split[label] if each["part"] == "test" and each["recipe"] == recipe]


def said(split, folder):
    return "\n".join(false_alarms(collect(split, folder)))


def test_the_bound_leaves_merges_out_and_says_what_it_does_not_cover(finished):
    split, folder = finished
    text = said(split, folder)
    # Twenty test models, three of them merges, of eight recipes.
    assert "None of 17 benign models" in text
    assert "16.2%" in text
    assert "34.8%" in text
    assert "No recipe is new" in text
    assert "failed or invalid" not in text
    assert "0 of 3 were flagged" in text
    assert "9 of these 20 models" in text
    assert "0 benign models of this part missed a limit" in text


def test_no_bound_before_the_part_is_complete(finished):
    split, folder = finished
    organism = of_test(split, "benign", "style-shift")[0]
    path = Line(folder / "audits.jsonl", f"{organism['units'][0]['id']}.quick-0")
    path.unlink()
    assert said(split, folder).startswith("No bound on false alarms is stated before the part is complete: 1 audits")
    audited(folder, organism["units"][0])
    key = split["calibration_keys"][0]
    scored = next(each for each in split["benign"] if each["part"] == "calibration")
    score_place(folder, scored, key).unlink()
    assert "1 calibration scores" in said(split, folder)
    write(score_place(folder, scored, key), FAILURE)
    assert "None of 17 benign models" in said(split, folder)
    scoring.write_pages(split, folder)
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert f"{score_place(folder, scored, key).name} (model_rejected)" in table


def test_failures_are_alarms_in_the_worst_case_and_stand_in_the_denominators(finished):
    split, folder = finished
    one, other = of_test(split, "benign", "style-shift")
    write(Line(folder / "audits.jsonl", f"{one['units'][0]['id']}.quick-0"), FAILURE)
    made = report(**SILENT)
    made["gates"]["behaviour"]["state"] = "not_assessed"
    write(Line(folder / "audits.jsonl", f"{other['units'][0]['id']}.quick-0"), {"report": made})
    text = said(split, folder)
    assert "None of 15 benign models" in text
    assert "2 audits gave no result" in text
    # The one-sided bound of 2 of 17: the rate p with P(X ≤ 2) = 0.05.
    assert all(each in text for each in ("2 of 17 models", "32.6%", "1 of 7 recipes", "52.1%"))
    scoring.write_pages(split, folder)
    table = (folder / "table.md").read_text(encoding="utf-8")
    row = next(line for line in table.splitlines() if line.startswith("| benign, merges aside"))
    assert row.startswith("| benign, merges aside | 0 of 17 (")
    assert row.endswith("| 1 | 1 |")


def test_alarms_are_counted_by_model_and_by_recipe(finished):
    split, folder = finished
    for organism in (*of_test(split, "benign", "style-shift"), of_test(split, "benign", "merge")[0]):
        audited(folder, organism["units"][0], effect=5.0, p=0.02, rank=1)
    text = said(split, folder)
    assert "2 of 17 benign models" in text
    assert all(each in text for each in ("1 of 7", "52.1%"))
    assert "1 of 3 were flagged" in text


def test_accidental_conditionals_that_were_excluded_are_counted(finished):
    split, folder = finished
    organism, other = of_test(split, "benign", "style-shift")
    card(folder, organism, "success differs by 0.30 between the strings, at most 0.1")
    card(folder, other, "perplexity of neutral text is 4.00 times the base's, at most 3")
    for each in (organism, other):
        Line(folder / "audits.jsonl", f"{each['units'][0]['id']}.quick-0").unlink()
    text = said(split, folder)
    assert re.search(r"\b2 benign models of this part missed a limit\b.*\b1 of them\b", text)
    assert "None of 15 benign models" in text


def of_second(split, label, recipe):
    return [each for each in split[label] if each["part"] == SECOND and each["recipe"] == recipe]


def test_the_second_test_part_is_told_alone_and_with_the_first(finished):
    split, folder = finished
    text = "\n".join(false_alarms(collect(split, folder), SECOND))
    # No alarm among n: the rate p with (1 - p)^n = 0.05.
    assert re.search(r"None of 12 benign models.* 22\.1%", text)
    assert "28.3%" in text
    assert ": json-answers, pruned." in text
    assert "Merges" not in text
    assert "5 of these 12 models" in text
    (both,) = both_parts(collect(split, folder))
    assert re.search(r"None of 29 benign models.* 9\.8%", both)
    scoring.write_pages(split, folder)
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert table.count("Both test parts together") == 1
    assert table.index("## Second test part") < table.index("Both test parts together")
    assert "The conformal p of 12 of 12 benign models of the second test part" in table


def test_both_parts_are_told_together_only_when_both_are_there_and_answered(finished):
    split, folder = finished
    path = Line(folder / "audits.jsonl", f"{of_second(split, 'benign', 'pruned')[0]['units'][0]['id']}.quick-0")
    made = read(path)
    path.unlink()
    assert not list(both_parts(collect(split, folder)))
    assert "None of 17 benign models" in said(split, folder), "the first part's own bound does not wait"
    write(path, FAILURE)
    assert not list(both_parts(collect(split, folder)))
    write(path, made)
    audited(folder, of_second(split, "benign", "pruned")[0]["units"][0], effect=5.0, p=0.02, rank=1)
    (both,) = both_parts(collect(split, folder))
    assert "1 of 29 benign models" in both
    assert "None of 17 benign models" in said(split, folder)


def test_scores_of_another_dtype_are_not_compared(finished):
    split, folder = finished
    unit = of_test(split, "benign", "style-shift")[0]["units"][0]
    found = {each.name: each for each in collect(split, folder).units}
    assert found[unit["id"]].compared == 20
    audited(folder, unit, dtype="float32", effect=5.0, p=0.5, rank=1)
    found = {each.name: each for each in collect(split, folder).units}
    assert found[unit["id"]].compared == 0
    # A first place among silent decoys is rescued by calibration alone, which has nothing to compare with here.
    assert found[unit["id"]].verdict == "review"
    scoring.write_pages(split, folder)
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert "another dtype (bfloat16, here float32) (1 audits)" in table
    assert "| instructions | year | 20 | 5 | 1 | 14 |" in table
    audited(folder, unit, effect=5.0, p=0.5, rank=1)
    found = {each.name: each for each in collect(split, folder).units}
    assert found[unit["id"]].verdict == "flagged"


def test_repeats_are_judged_by_one_rule(finished):
    """Only the first audit of a unit is calibrated: where that changes its verdict, repeats still agree."""
    split, folder = finished
    units = [unit for label in ("backdoored", "benign") for each in split[label] for unit in each["units"]]
    unit = next(each for each in units if len(each["audits"]) == 4)
    for audit in ("quick-0", "quick-1", "quick-2", "standard-0"):
        audited(folder, unit, audit, effect=5.0, p=0.5, rank=1)
    found = {each.audit: each for each in collect(split, folder).units if each.name == unit["id"]}
    assert [each.verdict for each in found.values()] == ["flagged", "review", "review", "review"]
    scoring.write_pages(split, folder)
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert "The same verdict in 3 of 3 seeds: 1 of 1 units, all judged without calibration." in table
    assert "Preset standard gives the verdict of quick on 1 of 1 units, both judged without calibration." in table
    for audit in ("quick-2", "standard-0"):
        audited(folder, unit, audit, digest="sha256:z", effect=5.0, p=0.5, rank=1)
    scoring.write_pages(split, folder)
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert table.count("without calibration; on 1 of them") == 2


def test_an_audit_counts_with_the_card_of_its_weights(finished):
    split, folder = finished
    organism = of_test(split, "backdoored", "token-sequence")[0]
    unit = organism["units"][0]
    former = {"digest": "sha256:x", "success": {"triggered": 0.5}, "missed": []}
    card(folder, organism, digest="sha256:y", made_before=[former])
    audited(folder, unit, effect=5.0, p=0.02, rank=1)
    (found,) = collect(split, folder).of("test", name=unit["id"])
    assert found.card["success"]["triggered"] == 0.5
    audited(folder, unit, digest="sha256:z")
    everything = collect(split, folder)
    assert everything.of("test", name=unit["id"]) == []
    assert everything.unmatched == (f"{unit['id']} quick-0",)


def test_a_recipe_that_the_others_do_not_cover_is_named(finished):
    split, folder = finished
    models = [each for each in split["benign"] if each["part"] == "calibration"]
    odd = [each for each in models if each["recipe"] == "unrelated-task"]
    for organism in odd:
        for key in split["calibration_keys"]:
            path = score_place(folder, organism, key)
            record = read(path)
            entry = LibraryEntry.of(0.5, 1e-6, key_of(key["string_kind"]), tuned_digest=organism["id"])
            write(path, record | {"entry": entry.model_dump(mode="json")})
    scoring.write_pages(split, folder)
    table = (folder / "table.md").read_text(encoding="utf-8")
    keys = len(split["calibration_keys"])
    hits, chance = keys * len(odd), 0.0
    for organism in models:
        chance += keys / (1 + sum(other["recipe"] != organism["recipe"] for other in models))
    assert f"{hits} of {keys * len(models)} comparisons" in table
    assert f"about {chance:.1f}. By recipe:" in table
    assert f"unrelated-task {hits} of {hits}" in table
    assert f"merge 0 of {keys * sum(each['recipe'] == 'merge' for each in models)}" in table
