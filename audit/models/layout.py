"""Sequences in flat tensors: where each one's positions are, and moving batches in and out.

Sequences are sorted by length, grouped under a token budget and padded on the right. In a causal model, real tokens
never attend to the right, so no attention mask is needed and padding changes nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audit.prompts.rendering import Tokens


@dataclass(frozen=True)
class Layout:
    """Where each sequence's positions are in a flat ``[positions, …]`` tensor, in the sequences' own order."""

    sequences: tuple[Tokens, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, sequences: Sequence[Tokens]) -> "Layout":
        """Lay the sequences out one after the other."""
        starts, position = [], 0
        for sequence in sequences:
            starts.append(position)
            position += len(sequence)
        return cls(tuple(sequences), tuple(starts))

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def n_positions(self) -> int:
        """Total number of positions."""
        return self.starts[-1] + len(self.sequences[-1]) if self.sequences else 0

    def rows(self, index: int) -> range:
        """Rows of one sequence."""
        return range(self.starts[index], self.starts[index] + len(self.sequences[index]))

    def span_rows(self, index: int) -> range:
        """Rows of one sequence from the string on, continuation included."""
        return range(self.starts[index] + self.sequences[index].span_start, self.rows(index).stop)

    def prompt_span_rows(self, index: int) -> range:
        """Rows of one sequence from the string to the end of the prompt."""
        begin = self.starts[index]
        return range(begin + self.sequences[index].span_start, begin + self.sequences[index].prompt_length)

    def last_prompt_row(self, index: int) -> int:
        """Row of the last prompt token."""
        return self.starts[index] + self.sequences[index].prompt_length - 1

    def batches(self, budget: int) -> Iterator[list[int]]:
        """Indices of the sequences, sorted by length, in groups of at most ``budget`` padded tokens."""
        order = sorted(range(len(self.sequences)), key=lambda index: (len(self.sequences[index]), index))
        group: list[int] = []
        for index in order:
            if group and (len(group) + 1) * len(self.sequences[index]) > budget:
                yield group
                group = []
            group.append(index)
        if group:
            yield group


def pad(layout: Layout, group: list[int], skip: int, device: torch.device) -> Int[Tensor, "group length"]:
    """Token ids of a group without their first ``skip`` tokens, padded with zeros on the right."""
    longest = max(len(layout.sequences[index]) for index in group) - skip
    ids = torch.zeros(len(group), longest, dtype=torch.long)
    for row, index in enumerate(group):
        sequence = layout.sequences[index].ids[skip:]
        ids[row, : len(sequence)] = torch.tensor(sequence)
    return ids.to(device)


def gather(
    layout: Layout, group: list[int], flat: Tensor, dtype: torch.dtype, device: torch.device, skip: int
) -> Float[Tensor, "group length d_model"]:
    """A group's rows of a flat tensor, padded with zeros on the right."""
    longest = max(len(layout.sequences[index]) for index in group) - skip
    out = torch.zeros(len(group), longest, flat.shape[-1], dtype=dtype, device=device)
    for row, index in enumerate(group):
        rows = layout.rows(index)[skip:]
        out[row, : len(rows)] = flat[rows.start : rows.stop].to(device=device, dtype=dtype)
    return out


def scatter(layout: Layout, group: list[int], values: Tensor, flat: Tensor, skip: int) -> None:
    """Write a group's rows back into a flat tensor, without padding."""
    for row, index in enumerate(group):
        rows = layout.rows(index)[skip:]
        flat[rows.start : rows.stop] = values[row, : len(rows)].to(device=flat.device, dtype=flat.dtype)


def empty_final(layout: Layout, d_model: int, dtype: torch.dtype) -> Tensor:
    """An empty tensor for the head's inputs at the compared outputs; all sequences have the same number."""
    first = layout.sequences[0]
    return torch.empty(len(layout), len(first) - first.prompt_length + 1, d_model, dtype=dtype)


def take_final(layout: Layout, group: list[int], last: Tensor, skip: int) -> Float[Tensor, "group outputs d_model"]:
    """The head's inputs at the compared outputs of a group: the last prompt token and every forced one."""
    outputs = []
    for row, index in enumerate(group):
        sequence = layout.sequences[index]
        outputs.append(last[row, sequence.prompt_length - 1 - skip : len(sequence) - skip])
    return torch.stack(outputs)


def scatter_final(layout: Layout, group: list[int], last: Tensor, final: Tensor, skip: int) -> None:
    """Write a group's compared outputs into the tensor of all sequences."""
    final[group] = take_final(layout, group, last, skip).to(device=final.device, dtype=final.dtype)
