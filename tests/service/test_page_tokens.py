"""Tokens of listings that the service pages itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import InvalidPageToken
from service.page_tokens import decode, encode

_POSITION = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)


@given(_POSITION)
def test_a_token_leads_back_to_its_position_in_its_listing_alone(position):
    token = encode("features", position)
    assert decode("features", token) == position
    with pytest.raises(InvalidPageToken):
        decode("deliveries", token)
    with pytest.raises(InvalidPageToken):
        decode("feature", token)


@given(st.text(max_size=30))
def test_any_other_text_is_refused_and_nothing_else_is_raised(text):
    try:
        position = decode("features", text)
    except InvalidPageToken:
        return
    assert decode("features", encode("features", position)) == position


def test_numbers_are_positions_too():
    assert decode("features", encode("features", 50)) == "50"
