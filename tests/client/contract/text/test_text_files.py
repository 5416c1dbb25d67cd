from hypothesis import given
from hypothesis import strategies as st

from backdoor_audit.contract.text.text_files import lines_of, text_of


def test_blank_lines_and_a_byte_order_mark_are_no_lines():
    assert lines_of("\ufeffa\r\n\r\n \nb\n") == ["a", "b"]
    assert text_of(b"\xef\xbb\xbfa") == "a"


@given(st.text(alphabet=st.characters(exclude_characters="\n\r\ufeff", exclude_categories=["Cs"])))
def test_every_other_character_stays_in_its_line(text):
    assert lines_of(f"x{text}\nlast") == [f"x{text}", "last"]
