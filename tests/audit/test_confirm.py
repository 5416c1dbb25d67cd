from audit.confirm import _size_p


def test_a_size_is_ranked_among_the_decoys_and_what_was_not_measured_never_favours_the_pair():
    assert _size_p(-3.0, [1.0, -2.0, 0.5]) == 0.25
    assert _size_p(3.0, [1.0, None, -4.0]) == 0.75
    assert _size_p(None, [1.0]) is None
    assert _size_p(3.0, []) is None
