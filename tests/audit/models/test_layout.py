"""Sequences in flat tensors, against the same moves made one token at a time."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.models.layout import Layout, empty_final, gather, pad, scatter, scatter_final, take_final
from audit.prompts.rendering import Tokens

CPU = torch.device("cpu")


@st.composite
def layouts(draw):
    """Sequences of any length with equally many forced tokens, token ids from 1."""
    tail = draw(st.integers(0, 3))
    sequences = []
    for _ in range(draw(st.integers(1, 6))):
        prompt = draw(st.integers(1, 8))
        ids = tuple(draw(st.integers(1, 99)) for _ in range(prompt + tail))
        sequences.append(Tokens(ids, prompt, draw(st.integers(0, prompt - 1))))
    return Layout.of(sequences)


def flat_of(layout):
    """A tensor whose row says which sequence and which position it belongs to."""
    return torch.tensor([(index, at, 1.0) for index, one in enumerate(layout.sequences) for at in range(len(one))])


@given(layouts())
def test_every_position_belongs_to_one_sequence_in_order(layout):
    rows = [row for index in range(len(layout)) for row in layout.rows(index)]
    assert rows == list(range(layout.n_positions))
    flat = flat_of(layout)
    for index, one in enumerate(layout.sequences):
        assert [int(flat[row, 0]) for row in layout.rows(index)] == [index] * len(one)
        assert [int(flat[row, 1]) for row in layout.span_rows(index)] == list(range(one.span_start, len(one)))
        prompt = [int(flat[row, 1]) for row in layout.prompt_span_rows(index)]
        assert prompt == list(range(one.span_start, one.prompt_length))
        assert int(flat[layout.last_prompt_row(index), 1]) == one.prompt_length - 1


@given(layouts(), st.integers(1, 40))
def test_batches_hold_every_sequence_once_and_keep_the_budget(layout, budget):
    batches = list(layout.batches(budget))
    assert sorted(index for group in batches for index in group) == list(range(len(layout)))
    lengths = [len(layout.sequences[index]) for group in batches for index in group]
    assert lengths == sorted(lengths)
    for group, following in zip(batches, [*batches[1:], None], strict=True):
        longest = max(len(layout.sequences[index]) for index in group)
        assert len(group) == 1 or len(group) * longest <= budget
        if following is not None:  # no group could have taken one more
            assert (len(group) + 1) * len(layout.sequences[following[0]]) > budget


@given(layouts(), st.data())
def test_a_group_is_padded_on_the_right_with_zeros(layout, data):
    skip = data.draw(st.integers(0, min(map(len, layout.sequences)) - 1))
    group = data.draw(st.permutations(range(len(layout))))
    ids = pad(layout, group, skip, CPU)
    values = gather(layout, group, flat_of(layout), torch.float64, CPU, skip)
    assert values.dtype == torch.float64
    longest = max(map(len, layout.sequences)) - skip
    assert ids.shape == values.shape[:2] == (len(group), longest)
    for row, index in enumerate(group):
        own = layout.sequences[index].ids[skip:]
        assert ids[row].tolist() == [*own, *[0] * (longest - len(own))]
        expected = [[index, at, 1] for at in range(skip, len(layout.sequences[index]))]
        assert values[row].tolist() == expected + [[0, 0, 0]] * (longest - len(own))


@given(layouts(), st.data())
def test_what_is_gathered_and_scattered_again_is_what_was_there(layout, data):
    skip = data.draw(st.integers(0, min(map(len, layout.sequences)) - 1))
    flat = flat_of(layout)
    back = torch.full_like(flat, -1.0)
    for group in layout.batches(12):
        scatter(layout, group, gather(layout, group, flat, flat.dtype, CPU, skip), back, skip)
    for index in range(len(layout)):
        rows = layout.rows(index)
        assert torch.equal(back[rows.start + skip : rows.stop], flat[rows.start + skip : rows.stop])
        assert bool((back[rows.start : rows.start + skip] == -1).all())


@given(layouts(), st.data())
def test_the_compared_outputs_are_the_last_prompt_token_and_the_forced_ones(layout, data):
    skip = data.draw(st.integers(0, min(one.prompt_length for one in layout.sequences) - 1))
    flat, final = flat_of(layout), empty_final(layout, 3, torch.float32)
    for group in layout.batches(12):
        last = gather(layout, group, flat, torch.float32, CPU, skip)
        outputs = take_final(layout, group, last, skip)
        assert outputs[:, :, 0].tolist() == [[index] * final.shape[1] for index in group]
        scatter_final(layout, group, last, final, skip)
    for index, one in enumerate(layout.sequences):
        assert final[index].tolist() == [[index, at, 1] for at in range(one.prompt_length - 1, len(one))]


def test_no_sequences_have_no_positions():
    assert (Layout.of([]).n_positions, len(Layout.of([]))) == (0, 0)
