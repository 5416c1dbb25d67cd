from audit.explain.text import excerpt


def test_excerpts_are_short_and_hold_no_control_characters():
    assert excerpt("a\x00b\x1b[2J\tc\n", 20) == "a\ufffdb\ufffd[2J\tc\n"
    assert excerpt("abcdef", 4) == "abc…"
    assert excerpt("abcdef", 4, keep_end=True) == "…def"
    assert excerpt("abcd", 4) == "abcd"
