"""A plan is written whole, and a plan that was changed by hand is noticed."""

from benchmarks.harness.generated import write_or_check


def test_what_is_written_is_what_a_check_finds(tmp_path, capsys):
    place = tmp_path / "plan.json"
    assert write_or_check(place, "é\n", None, ["--check"]) == 1
    assert not place.exists()
    assert write_or_check(place, "é\n", None, []) == 0
    assert place.read_text(encoding="utf-8") == "é\n"
    assert write_or_check(place, "é\n", None, ["--check"]) == 0
    place.write_text("e\n", encoding="utf-8")
    capsys.readouterr()
    assert write_or_check(place, "é\n", None, ["--check"]) == 1
    assert "plan.json" in capsys.readouterr().err
    assert place.read_text(encoding="utf-8") == "e\n"
