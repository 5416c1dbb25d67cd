"""Running a model over token sequences: capture of the residual stream, and runs that begin in the middle.

Sequences are sorted by length, grouped under a token budget and padded on the right. A causal model's real tokens never
look to their right, so no attention mask is needed and padding changes nothing.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audit.locate import Anatomy
from audit.pair import ModelPair, Side
from audit.rendering import Tokens


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
        """Positions of all sequences together."""
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


@dataclass(frozen=True)
class Capture:
    """What one model did on some sequences.

    Attributes:
        layout: the sequences.
        hidden: per layer, the residual stream leaving that block, ``[positions, d_model]`` in the model's dtype.
        final: the head's input at the outputs that are compared, ``[sequences, outputs, d_model]``: the last prompt
            position and every forced token. None where it was not asked for.
    """

    layout: Layout
    hidden: dict[int, Float[Tensor, "positions d_model"]]
    final: Float[Tensor, "sequences outputs d_model"] | None


class Runner:
    """Runs one side of a pair over sequences.

    Args:
        pair: both models.
        budget: padded tokens a batch.
        tick: called after every batch with the tokens it held; may raise to stop.
    """

    def __init__(self, pair: ModelPair, *, budget: int = 4096, tick: Callable[[int], None] | None = None) -> None:
        self.pair = pair
        self.budget = budget
        self.tick = tick or (lambda _tokens: None)
        self._tuples = self._probe()

    @torch.no_grad()
    def _probe(self) -> bool:
        """Whether this architecture's blocks return tuples; run once on one token."""
        with self.pair.on("tuned") as anatomy:
            kinds: list[bool] = []
            handle = anatomy.blocks[0].register_forward_hook(lambda _m, _i, out: kinds.append(isinstance(out, tuple)))
            try:
                _run_body(anatomy, torch.zeros(1, 1, dtype=torch.long, device=self.pair.device))
            finally:
                handle.remove()
        return kinds[0]

    @torch.no_grad()
    def capture(
        self, sequences: Sequence[Tokens], side: Side, layers: Sequence[int], *, outputs: bool = True
    ) -> Capture:
        """Run whole sequences. With ``outputs=False`` the blocks above the last layer asked for are not run."""
        layout = Layout.of(sequences)
        pair, d_model = self.pair, self.pair.d_model
        hidden = {layer: torch.empty(layout.n_positions, d_model, dtype=pair.dtype) for layer in layers}
        final = _empty_final(layout, d_model, pair.dtype) if outputs else None
        with pair.on(side) as anatomy:
            for group in layout.batches(self.budget):
                ids = _pad(layout, group, pair.device)
                with _watch(anatomy, layers, stop=not outputs) as seen:
                    last = _run_body(anatomy, ids)
                for layer in layers:
                    _scatter(layout, group, seen[layer], hidden[layer])
                if final is not None and last is not None:
                    _scatter_final(layout, group, last, final)
                self.tick(ids.numel())
        return Capture(layout, hidden, final)

    @torch.no_grad()
    def resume(
        self, layout: Layout, layer: int, hidden: Float[Tensor, "positions d_model"], side: Side = "tuned"
    ) -> Float[Tensor, "sequences outputs d_model"]:
        """Run only the blocks above ``layer`` from a given residual stream; gives what ``final`` of a capture holds."""
        final = _empty_final(layout, self.pair.d_model, self.pair.dtype)
        with self.pair.on(side) as anatomy:
            for group in layout.batches(self.budget):
                last = self._resume_group(anatomy, layout, group, layer, hidden)
                _scatter_final(layout, group, last, final)
        return final

    def _resume_group(self, anatomy: Anatomy, layout: Layout, group: list[int], layer: int, hidden: Tensor) -> Tensor:
        ids = _pad(layout, group, self.pair.device)
        start = _gather(layout, group, hidden, self.pair)
        with _skip_to(anatomy, layer, start, self._tuples):
            last = _run_body(anatomy, ids)
        assert last is not None
        self.tick(ids.numel())
        return last

    def gradients(
        self,
        layout: Layout,
        layers: Sequence[int],
        hidden: Float[Tensor, "positions d_model"],
        loss: Callable[[Anatomy, list[int], Float[Tensor, "group outputs d_model"]], Float[Tensor, ""]],
    ) -> dict[int, Float[Tensor, "positions d_model"]]:
        """Gradient of a sum over sequences with respect to the residual stream at each layer, one backward pass.

        Args:
            layout: the sequences of the run.
            layers: ascending; the run begins at the first.
            hidden: residual stream leaving the first layer.
            loss: from the group's indices and the head's inputs to a scalar summed over the group.

        Returns:
            Per layer, float32 gradients laid out as ``hidden``.
        """
        grads = {layer: torch.zeros(layout.n_positions, self.pair.d_model) for layer in layers}
        with self.pair.on("tuned") as anatomy, torch.enable_grad():
            for group in layout.batches(self.budget):
                ids = _pad(layout, group, self.pair.device)
                start = _gather(layout, group, hidden, self.pair).requires_grad_(True)
                with (
                    _skip_to(anatomy, layers[0], start, self._tuples),
                    _watch(anatomy, layers[1:], keep_grad=True) as seen,
                ):
                    last = _run_body(anatomy, ids)
                assert last is not None
                loss(anatomy, group, _take_final(layout, group, last)).backward()  # type: ignore[no-untyped-call]
                for layer, value in [(layers[0], start), *((layer, seen[layer]) for layer in layers[1:])]:
                    assert value.grad is not None
                    _scatter(layout, group, value.grad, grads[layer])
                self.tick(2 * ids.numel())
        return grads

    @torch.no_grad()
    def greedy(self, prompts: Sequence[Tokens], n_tokens: int, side: Side = "tuned") -> list[tuple[int, ...]]:
        """Greedy continuation of exactly ``n_tokens`` tokens; an end-of-text token is never chosen."""
        if n_tokens == 0:
            return [()] * len(prompts)
        from transformers import GenerationConfig

        model = self.pair.models[side]
        tokenizer = self.pair.tokenizer
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0)
        config = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False, max_new_tokens=n_tokens, min_new_tokens=n_tokens, pad_token_id=pad,
            eos_token_id=tokenizer.eos_token_id, use_cache=True,
        )  # fmt: skip
        layout = Layout.of(prompts)
        found: dict[int, tuple[int, ...]] = {}
        with self.pair.on(side):
            for group in layout.batches(self.budget):
                longest = max(len(prompts[index]) for index in group)
                ids = torch.full((len(group), longest), pad, dtype=torch.long)
                mask = torch.zeros_like(ids)
                for row, index in enumerate(group):
                    ids[row, longest - len(prompts[index]) :] = torch.tensor(prompts[index].ids)
                    mask[row, longest - len(prompts[index]) :] = 1
                ids, mask = ids.to(self.pair.device), mask.to(self.pair.device)
                out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)  # type: ignore[operator]
                for row, index in enumerate(group):
                    found[index] = tuple(int(token) for token in out[row, longest : longest + n_tokens])
                self.tick(ids.numel())
        return [found[index] for index in range(len(prompts))]


def _run_body(anatomy: Anatomy, ids: Int[Tensor, "group length"]) -> Tensor | None:
    try:
        return anatomy.body(input_ids=ids, use_cache=False).last_hidden_state
    except _StopForward:
        return None


class _StopForward(Exception):
    """Everything that was asked for has been seen."""


@contextlib.contextmanager
def _watch(
    anatomy: Anatomy, layers: Sequence[int], *, stop: bool = False, keep_grad: bool = False
) -> Iterator[dict[int, Tensor]]:
    """Collect the outputs of blocks while the body runs; with ``stop`` end the run after the last of them."""
    seen: dict[int, Tensor] = {}
    last = max(layers, default=-1)

    def hook(layer: int) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) else output
            seen[layer] = value
            if keep_grad:
                value.retain_grad()
            if stop and layer == last:
                raise _StopForward

        return keep

    handles = [anatomy.blocks[layer].register_forward_hook(hook(layer)) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _skip_to(anatomy: Anatomy, layer: int, hidden: Tensor, as_tuple: bool) -> Iterator[None]:
    """Let blocks 0…``layer`` do nothing and give ``hidden``."""

    def forward(*_args: Any, **_kwargs: Any) -> Any:
        return (hidden,) if as_tuple else hidden

    skipped = [anatomy.blocks[index] for index in range(layer + 1)]
    for block in skipped:
        block.forward = forward
    try:
        yield
    finally:
        for block in skipped:
            del block.forward


def _pad(layout: Layout, group: list[int], device: torch.device) -> Int[Tensor, "group length"]:
    longest = max(len(layout.sequences[index]) for index in group)
    ids = torch.zeros(len(group), longest, dtype=torch.long)
    for row, index in enumerate(group):
        sequence = layout.sequences[index].ids
        ids[row, : len(sequence)] = torch.tensor(sequence)
    return ids.to(device)


def _gather(layout: Layout, group: list[int], flat: Tensor, pair: ModelPair) -> Float[Tensor, "group length d_model"]:
    longest = max(len(layout.sequences[index]) for index in group)
    out = torch.zeros(len(group), longest, flat.shape[-1], dtype=pair.dtype, device=pair.device)
    for row, index in enumerate(group):
        rows = layout.rows(index)
        out[row, : len(rows)] = flat[rows.start : rows.stop].to(device=pair.device, dtype=pair.dtype)
    return out


def _scatter(layout: Layout, group: list[int], values: Tensor, flat: Tensor) -> None:
    for row, index in enumerate(group):
        rows = layout.rows(index)
        flat[rows.start : rows.stop] = values[row, : len(rows)].to(device=flat.device, dtype=flat.dtype)


def _empty_final(layout: Layout, d_model: int, dtype: torch.dtype) -> Tensor:
    first = layout.sequences[0]
    return torch.empty(len(layout), len(first) - first.prompt_length + 1, d_model, dtype=dtype)


def _take_final(layout: Layout, group: list[int], last: Tensor) -> Float[Tensor, "group outputs d_model"]:
    picked = []
    for row, index in enumerate(group):
        sequence = layout.sequences[index]
        picked.append(last[row, sequence.prompt_length - 1 : len(sequence)])
    return torch.stack(picked)


def _scatter_final(layout: Layout, group: list[int], last: Tensor, final: Tensor) -> None:
    final[group] = _take_final(layout, group, last).to(device=final.device, dtype=final.dtype)
