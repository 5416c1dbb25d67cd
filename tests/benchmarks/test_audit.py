import pytest

from benchmarks.audit import compare, directly, fresh_data, measure, summarise
from examples.demo import BASE, copy_whole
from tests.toy import toy_spec


def test_a_second_audit_takes_the_bases_activations_from_the_cache(toy_base, toy_adapter, tmp_path):
    copy_whole(toy_adapter, tmp_path / "adapters" / "organism")
    spec = toy_spec(f"local:{BASE}", "local:organisms/organism")
    with fresh_data(toy_base, tmp_path / "adapters", ["organism"], tmp_path / "data") as data:
        with directly(data) as auditor:
            first, second = measure(auditor, [spec, spec])
        assert not [path for path in data.iterdir() if path.name.startswith("tmp")]
    assert not list((tmp_path / "data").iterdir())
    assert (first["cache_hits"], second["cache_misses"]) == (0, 0)
    assert second["cache_hits"] == first["cache_misses"] > 0
    assert first["verdict"] == second["verdict"]
    assert first["stages_s"]["extract"] <= first["seconds"]


def _row(organism, verdict, seconds, extract):
    reference = f"local:organisms/{organism}"
    return {"fine_tuned": reference, "verdict": verdict, "seconds": seconds, "stages_s": {"extract": extract}}


def test_ratios_goals_and_verdicts():
    rows = [
        _row("sql-year", "flagged", 120.0, 60.0),
        _row("sql-year-benign", "no_evidence", 60.0, 30.0),
        _row("sql-year", "flagged", 96.0, 45.0),
    ]
    assert compare(rows[0], rows[2]) == {"total": 0.8, "extract": 0.75}
    figures = summarise("quick", rows)
    assert figures["verdicts_right"]
    assert [row["met"] for row in figures["goals"]] == [True, True, False]
    assert figures["goals"][0]["measured"] == "2 min"
    rows[1]["verdict"] = "flagged"
    assert not summarise("standard", rows[:2])["verdicts_right"]


def test_the_data_folder_goes_when_an_audit_fails(toy_base, tmp_path):
    with pytest.raises(RuntimeError), fresh_data(toy_base, tmp_path, [], tmp_path / "data"):
        raise RuntimeError
    assert not list((tmp_path / "data").iterdir())
