"""Which answers a client has already."""

import pytest

from service.http.etags import matches, tag_of


def test_a_tag_follows_the_bytes():
    assert tag_of(b"a") == tag_of(b"a") != tag_of(b"b")
    assert tag_of(b"a")[0] == tag_of(b"a")[-1] == '"'


@pytest.mark.parametrize(
    ("given", "known"),
    [
        (None, False), ("", False), ('"7"', True), ('W/"7"', True), ('"6"', False), ("7", False), ("*", True),
        ('"5", "7"', True), ('"5",W/"7"', True), ('"5", "6"', False), ('"77"', False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("etag", ['"7"', 'W/"7"'])
def test_tags_are_compared_weakly(given, known, etag):
    assert matches(given, etag) is known
