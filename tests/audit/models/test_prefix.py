"""The tokens that all sequences begin with, run once, against running them in every sequence."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.models.hooks import watch
from audit.models.layout import Layout
from audit.models.parts import locate
from audit.models.prefix import Prefix, can_share_prefix, common_prefix, scatter_prefix
from audit.prompts.rendering import Tokens
from tests.audit.small_models import LAYERS, random_sequences, small_model

CPU = torch.device("cpu")


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 1), min_size=3, max_size=8), st.integers(0, 7)), min_size=1, max_size=4)
)
def test_the_common_prefix_is_the_longest_without_a_string_and_a_compared_output(drawn):
    sequences = [Tokens(tuple(ids), len(ids) - 1, min(start, len(ids) - 2)) for ids, start in drawn]
    shared = common_prefix(sequences)
    for length in range(9):  # the naive way: try every length
        fits = all(
            one.ids[:length] == sequences[0].ids[:length]
            and length <= one.span_start
            and length <= one.prompt_length - 1
            for one in sequences
        )
        assert fits == (length <= len(shared)), length


@pytest.mark.parametrize(
    ("shape", "shares"), [("llama", True), ("gpt2", True), ("mistral", False), ("gemma2", False), ("gemma3", False)]
)
def test_a_prefix_is_shared_where_every_block_sees_the_whole_past(shape, shares):
    assert can_share_prefix(locate(small_model(shape))) is shares


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
@torch.no_grad()
def test_what_follows_a_shared_prefix_is_as_in_a_whole_run(shape, assert_close):
    parts = locate(small_model(shape))
    head, tails = (5, 6, 7, 8), torch.tensor([[9, 10, 11], [12, 13, 14]])
    prefix = Prefix.of(parts, head, CPU)
    whole = torch.cat([torch.tensor([head, head]), tails], dim=1)
    with watch(parts, range(LAYERS)) as seen:
        expected = parts.body(input_ids=whole).last_hidden_state
    for _ in range(2):  # a run leaves the remembered keys and values as they were
        assert_close(prefix.run(parts, tails), expected[:, len(head) :])
    assert prefix.length == len(head)
    for layer in range(LAYERS):
        assert_close(prefix.hidden[layer], seen[layer][0, : len(head)])


@torch.no_grad()
def test_nothing_shared_is_a_plain_run(assert_close):
    parts = locate(small_model("llama"))
    prefix = Prefix.of(parts, (), CPU)
    ids = torch.tensor([[5, 6, 7]])
    assert (prefix.length, prefix.cache, prefix.hidden) == (0, None, {})
    assert_close(prefix.run(parts, ids), parts.body(input_ids=ids).last_hidden_state)


@torch.no_grad()
def test_a_run_that_a_watch_stops_gives_nothing():
    parts = locate(small_model("llama"))
    with watch(parts, (0,), stop=True) as seen:
        assert Prefix.of(parts, (), CPU).run(parts, torch.tensor([[5, 6]])) is None
    assert sorted(seen) == [0]


def test_the_shared_tokens_are_written_into_every_sequence_of_the_group():
    layout = Layout.of(random_sequences(3, prefix=2))
    hidden = {1: torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
    flat = torch.zeros(layout.n_positions, 2)
    scatter_prefix(layout, [0, 2], Prefix((7, 8), None, hidden), 1, flat)
    for index in range(3):
        start = layout.starts[index]
        assert torch.equal(flat[start : start + 2], torch.zeros(2, 2) if index == 1 else hidden[1])
        assert not flat[start + 2 : layout.rows(index).stop].any()
