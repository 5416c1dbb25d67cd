"""Figures in prose are those of the committed records."""

import pytest

from tools.figures import __main__ as figures

VALUES = {"rate": "19 of 19", "table": "| a |\n| --- |\n| 1 |", "sentence": "word " * 40 + "end."}


@pytest.fixture(scope="module")
def records():
    return figures.figures()


def test_committed_pages_hold_what_the_records_give(monkeypatch, records, capsys):
    monkeypatch.setattr(figures, "figures", lambda: records)
    assert figures.main(["--check"]) == 0, capsys.readouterr().err


def test_a_figure_that_the_records_do_not_give_fails_the_check_until_it_is_written(
    tmp_path, monkeypatch, records, capsys
):
    monkeypatch.setattr(figures, "figures", lambda: records)
    page = tmp_path / "README.md"
    page.write_text("So often: <!-- figures: backdoored-flagged -->20 of 20<!-- end -->, by hand.\n")
    assert figures.main(["--check"], tmp_path) == 1
    assert "README.md" in capsys.readouterr().err
    assert figures.main(["--write"], tmp_path) == 0
    assert figures.main(["--check"], tmp_path) == 0
    wanted = f"So often: <!-- figures: backdoored-flagged -->{records['backdoored-flagged']}<!-- end -->, by hand.\n"
    assert page.read_text() == wanted


def test_a_block_keeps_its_indentation_and_wraps_sentences_but_not_tables():
    text = "- item\n  <!-- figures: sentence -->\n  old\n  <!-- end -->\n\n<!-- figures: table -->\n<!-- end -->\n"
    filled = figures.filled(text, VALUES)
    assert figures.filled(filled, VALUES) == filled
    assert filled.endswith("<!-- figures: table -->\n| a |\n| --- |\n| 1 |\n<!-- end -->\n")
    lines = filled.split("\n<!--")[0].splitlines()
    assert all(line.startswith("  ") and len(line) <= 120 for line in lines[1:-1])
    assert " ".join(" ".join(lines[2:-1]).split()) == VALUES["sentence"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a <!-- figures: none-such -->1<!-- end -->", "no figure is named none-such"),
        ("a <!-- figures: rate -->1", "has no <!-- end -->"),
        ("a <!-- figures: rate -->1 <!-- figures: rate -->2<!-- end -->", "has no <!-- end -->"),
        ("a <!-- figures: two words -->1<!-- end -->", "has no <!-- end -->"),
        ("<!-- figures: rate -->1<!-- end --> of them", "begins a line"),
        ("- <!-- figures: rate -->1<!-- end --> of them", "begins a line"),
    ],
)
def test_wrong_markers_are_refused(text, reason):
    with pytest.raises(figures.BadMarker, match=reason):
        figures.filled(text, VALUES)
