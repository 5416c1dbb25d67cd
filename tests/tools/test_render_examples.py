from tools import render_examples


def test_the_examples_are_what_the_renderers_make():
    assert render_examples.main(["--check"]) == 0


def test_an_outdated_page_is_named_and_written_again(tmp_path, monkeypatch, capsys):
    for path in render_examples.FOLDER.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(render_examples, "FOLDER", tmp_path)
    assert render_examples.main(["--check"]) == 1
    assert render_examples.main(["--write"]) == 0
    assert render_examples.main(["--check"]) == 0
    page = tmp_path / "review-page.html"
    page.write_text(page.read_text().replace("Review", "Flagged"))
    capsys.readouterr()
    assert render_examples.main(["--check"]) == 1
    assert "review-page.html" in capsys.readouterr().err
