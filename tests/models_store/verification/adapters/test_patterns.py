import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_store.verification.adapters.patterns import MAX_PATTERN_CHARS, Budget, Pattern, PatternRefused

NAMES = ["model.layers.0.self_attn.q_proj", "model.layers.11.mlp.down_proj", "lm_head", "model.embed_tokens", "a", ""]
PIECES = [
    "a",
    "q_proj",
    r"\d+",
    r"\.",
    ".",
    "[a-z_]",
    "[^.]",
    r"\b",
    "^",
    "$",
    "(?:a|b)",
    "(lm_head|v)",
    r"\w",
    r"[\d.]",
]
REPEATS = ["", "*", "+", "?", "{0,3}", "{2}", "*?", "+?"]
LOOKS = ["(?={})", "(?!{})", "(?<=a)", "(?<!a)"]


@pytest.mark.parametrize(
    "pattern",
    [
        r"^(model)(?!.*(lm_head|output|emb|wte|shared)).*\.(q_proj|v_proj)$",
        r".*\.(?:self_attn|mlp)\..*_proj",
        r"(?:.*?(?:language|text).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|down_proj)))",
        r"model\.layers\.\d+\.(?:self_attn\.[qv]_proj|mlp\..*)",
        r".*(?<!q)_proj",
        r"(a*)*b|lm.*",
        r"[^.]+",
        r"(?i).*\.[QD]\w+_PROJ",
        r"(?i)LM_[^A-G]ead",
        r".*(?i:EMBED)_tokens|(?i:[^L]).*",
        r"(?is) LM.* | model (?-i:\.EMBED.*)",
        "(?x) .* _proj  # all of them",
    ],
)
def test_patterns_of_training_tools_match_as_pythons_own(pattern):
    for name in NAMES:
        assert Pattern(pattern, Budget()).matches(name) == bool(re.fullmatch(pattern, name))


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(REPEATS)), max_size=5), st.sampled_from(LOOKS))
def test_any_pattern_matches_as_pythons_own(pieces, look):
    body = "".join(f"(?:{piece}){repeat}" for piece, repeat in pieces)
    pattern = look.format("q|.*d") + body
    for name in NAMES:
        try:
            matches = Pattern(pattern, Budget()).matches(name)
        except PatternRefused:
            return
        assert matches == bool(re.fullmatch(pattern, name))


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a)\1",
        "(?>a)b",
        "a*+",
        "(a)?(?(1)b|c)",
        "(",
        "a{5000}",
        "(" * 300 + ")" * 300,
        "(" * 9_000 + ")" * 9_000,
        "a" * (MAX_PATTERN_CHARS + 1),
    ],
)
def test_what_cannot_be_bounded_is_refused(pattern):
    with pytest.raises(PatternRefused):
        Pattern(pattern, Budget())


@pytest.mark.parametrize(
    "pattern",
    [
        "(?:(?:[a-z_.0-9]+)+)+!",
        "(x+x+)+y",
        "(a+)+$",
        "(((.{0,999}){0,999}){0,999})x",
        "(?:.*(?<=.*.*.*x))*y",
        ".*" * 500 + "!",
    ],
)
def test_a_pattern_that_backtracks_for_ever_has_an_answer_soon(pattern):
    start = time.process_time()
    with contextlib.suppress(PatternRefused):
        parsed = Pattern(pattern, Budget())
        for number in range(10_000):
            assert not parsed.matches(f"model.layers.{number}.self_attn.q_proj")
    assert time.process_time() - start < 3
