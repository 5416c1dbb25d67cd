import pytest
from hypothesis import given
from hypothesis import strategies as st

from backdoor_audit.contract.text.text_files import lines_of, read_lines, text_of


def test_blank_lines_and_a_byte_order_mark_are_no_lines():
    assert lines_of("\ufeffa\r\n\r\n \nb\n") == ["a", "b"]
    assert text_of(b"\xef\xbb\xbfa") == "a"


@given(st.text(alphabet=st.characters(exclude_characters="\n\r\ufeff", exclude_categories=["Cs"])))
def test_every_other_character_stays_in_its_line(text):
    assert lines_of(f"x{text}\nlast") == [f"x{text}", "last"]


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("log.txt", b"\xef\xbb\xbfone\r\n\n  \ntwo", ["one", "two"]),
        ("log.txt", b"", []),
        ("log.jsonl", b'"one"\n{"prompt": "two"}\n{"text": "3"}\n', ["one", "two", "3"]),
        ("log.jsonl", b'{"messages": [{"role": "user", "content": "a"}, {"content": "b"}]}', ["a\nb"]),
    ],
)
def test_prompts_are_read_from_a_file(tmp_path, name, content, lines):
    (tmp_path / name).write_bytes(content)
    assert read_lines(tmp_path / name, most=3, longest=10) == lines


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("log.txt", b"a\nb\nc\nd\n", "more than 3 lines"),
        ("log.txt", b"a\n" + b"s3cret" * 100, "line 2"),
        ("log.txt", b"a\nb\nc" + b"x" * 50_000_000, "line 3"),
        ("log.txt", b"\xff\xfe", "line 1"),
        ("log.txt", b"a\nnul \x00", "line 2"),
        ("log.jsonl", b'"a"\n{"s3cret": 1}', "line 2"),
        ("log.jsonl", b"[" * 100, "line 1"),
        ("log.jsonl", b'"\\ud800"', "line 1"),
    ],
)
def test_a_hostile_file_is_refused_by_its_line_and_never_quoted(tmp_path, name, content, place):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=place) as caught:
        read_lines(tmp_path / name, most=3, longest=10)
    assert "s3cret" not in str(caught.value)
