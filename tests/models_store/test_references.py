import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_store.errors import InvalidReference, ModelRejected
from models_store.references import Reference, parse_reference

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("local:smollm2-135m", Reference("local", "smollm2-135m")),
        ("local:organisms/sql-year", Reference("local", "organisms/sql-year")),
        ("store:my.model-1", Reference("store", "my.model-1")),
        (f"hf:org/repo.name@{COMMIT}", Reference("hf", "org/repo.name", COMMIT)),
        ("mlflow:sql writer-2.b/17", Reference("mlflow", "sql writer-2.b", version="17")),
    ],
)
def test_the_four_forms_are_read_and_written_back(text, expected):
    assert parse_reference(text) == expected
    assert str(expected) == text


def test_only_a_hub_reference_has_an_organisation():
    assert parse_reference(f"hf:org/repo@{COMMIT}").organisation == "org"
    assert parse_reference("local:org/repo").organisation is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "smollm2",
        "local:",
        "local:/etc/passwd",
        "local:../up",
        "local:a/../../b",
        "local:a/..",
        "local:a//b",
        "local:./a",
        "local:a/",
        "local:a\n",
        "local:a b",
        "store:../x",
        "store:Upper",
        "store:a/b",
        "store:",
        "http://example.com/model",
        "https://hub.example/org/repo",
        "file:///etc/passwd",
        f"hf:repo@{COMMIT}",
        f"hf:../repo@{COMMIT}",
        f"hf:org/../repo@{COMMIT}",
        f"hf:a--b/repo@{COMMIT}",
        "mlflow:",
        "mlflow:/1",
        "mlflow: a/1",
        "mlflow:../1",
        "mlflow:a:b/1",
        "mlflow:" + "a" * 256 + "/1",
        "local:" + "a" * 600,
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(InvalidReference) as caught:
        parse_reference(text)
    assert caught.value.code == "invalid_spec"
    assert caught.value.hint


@pytest.mark.parametrize("suffix", ["", "@main", "@0123456", f"@{COMMIT.upper()}", f"@{COMMIT}0"])
def test_a_hub_reference_needs_the_whole_commit(suffix):
    with pytest.raises(ModelRejected, match="full commit"):
        parse_reference(f"hf:org/repo{suffix}")


@pytest.mark.parametrize(
    "suffix", ["", "/", "/latest", "/Production", "@champion", "@champion/1", "/01", "/1/x", "/-1"]
)
def test_a_registered_model_needs_the_number_of_a_version(suffix):
    with pytest.raises(ModelRejected, match="names no version"):
        parse_reference(f"mlflow:model{suffix}")


@given(st.text(max_size=40))
def test_a_local_reference_never_leaves_the_root(path):
    try:
        parsed = parse_reference(f"local:{path}")
    except InvalidReference:
        return
    assert not parsed.name.startswith("/")
    assert not {"", ".", ".."} & set(parsed.name.split("/"))
