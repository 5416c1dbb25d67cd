import time

import pytest

from models_store.errors import ModelRejected
from models_store.verification.strict_json import parse_object, read_object


def test_an_object_is_read():
    assert parse_object(b'{"a": [1, 2.5, null, "x"]}', "x.json") == {"a": [1, 2.5, None, "x"]}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a": 1, "a": 2}', "'a' twice"),
        (b'{"x": {"a": 1, "b": 2, "b": 3}}', "'b' twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e999}', "beyond"),
        (b"[1]", "JSON object"),
        (b'{"a": 1', "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"a": ' + b"[" * 20 + b"]" * 20 + b"}", "deeper than 8"),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "too deep"),
    ],
)
def test_what_has_no_single_meaning_is_refused_with_the_files_name(data, reason):
    with pytest.raises(ModelRejected, match=f"config.json: .*{reason}"):
        parse_object(data, "config.json")


def test_depth_can_be_left_to_the_parser():
    assert parse_object(b'{"a": ' + b"[" * 20 + b"]" * 20 + b"}", "tokenizer.json", depth=None)


def test_a_file_over_its_limit_is_refused(tmp_path):
    path = tmp_path / "big.json"
    path.write_text('{"a": "' + "x" * 100 + '"}')
    with pytest.raises(ModelRejected, match="more than 50 bytes"):
        read_object(path, "big.json", limit=50)


def test_a_document_of_too_many_objects_is_refused_before_it_is_parsed():
    data = b'{"a": [' + b"{}," * 1_000_000 + b"{}]}"
    start = time.monotonic()
    with pytest.raises(ModelRejected, match="more entries than are read"):
        parse_object(data, "tokenizer.json", depth=None)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(("escape", "taken"), [(b"\\u00e9", True), (b"\\u20ac", True), (b"\\ud83d\\ude00", False)])
def test_characters_that_widen_a_whole_string_count_before_it_is_made(escape, taken):
    data = b'{"a": "' + b"x" * 39_000_000 + escape + b'"}'
    if taken:
        assert len(parse_object(data, "tokenizer.json", large=True)["a"]) == 39_000_001
    else:
        with pytest.raises(ModelRejected, match="more memory"):
            parse_object(data, "tokenizer.json", large=True)
