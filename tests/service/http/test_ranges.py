"""Parts of files, against picking the bytes one by one as RFC 9110, 14.1.2 says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from service.errors import RangeNotSatisfiable
from service.http.ranges import RangedResponse, _part

_BOUND = st.one_of(st.none(), st.integers(0, 12))


@given(_BOUND, _BOUND, st.integers(0, 9))
def test_a_range_holds_the_positions_that_it_names(first, last, size):
    wanted = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        assert _part(wanted, size) is None, "not a range: the whole is sent"
        return
    if first is None:
        positions = list(range(size))[-last:] if last else []
    else:
        positions = [at for at in range(size) if at >= first and (last is None or at <= last)]
    if not positions:
        with pytest.raises(RangeNotSatisfiable):
            _part(wanted, size)
        return
    assert list(range(*_part(wanted, size))) == positions


@pytest.mark.parametrize(
    "wanted", ["bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes 0-1", "bytes=-", "bytes=0-1x", f"bytes=0-{'9' * 19}"]
)
def test_what_is_no_single_range_gets_the_whole(wanted):
    assert _part(wanted, 10) is None


def respond(content, **headers):
    asked = []

    def read(start, stop):
        asked.append((start, stop))
        return iter([content[start:stop]])

    scope = {
        "type": "http",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    answer = RangedResponse(
        read, len(content), Request(scope), headers={"ETag": '"1"'}, media_type="text/plain", filename="a b.txt"
    )
    return answer, asked


@pytest.mark.parametrize(
    ("headers", "status", "asked"),
    [
        ({}, 200, (0, 6)),
        ({"range": "bytes=2-3"}, 206, (2, 4)),
        ({"range": "bytes=2-3", "if_range": '"1"'}, 206, (2, 4)),
        ({"range": "bytes=2-3", "if_range": '"0"'}, 200, (0, 6)),
        ({"range": "bytes=2-3,5-5"}, 200, (0, 6)),
    ],
)
def test_only_what_is_asked_for_is_read(headers, status, asked):
    answer, read = respond(b"abcdef", **headers)
    assert (answer.status_code, read) == (status, [asked])
    assert answer.headers["content-length"] == str(asked[1] - asked[0])
    assert answer.headers.get("content-range") == ("bytes 2-3/6" if status == 206 else None)
    assert answer.headers["content-disposition"] == 'attachment; filename="a%20b.txt"'


def test_an_empty_file_is_sent_whole():
    answer, _ = respond(b"")
    assert (answer.status_code, answer.headers["content-length"]) == (200, "0")
