"""Running a model over token sequences: activations of the residual stream, and runs that begin in the middle.

Sequences are sorted by length, grouped under a token budget and padded on the right. A causal model's real tokens never
look to their right, so no attention mask is needed and padding changes nothing.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audit.models.pair import ModelPair, Side
from audit.models.parts import ModelParts
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
class Activations:
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


def common_prefix(sequences: Sequence[Tokens]) -> tuple[int, ...]:
    """Tokens that all sequences begin with, as far as no string and no compared output is among them."""
    limit = min(min(sequence.span_start, sequence.prompt_length - 1) for sequence in sequences)
    shared = sequences[0].ids[: max(0, limit)]
    for sequence in sequences[1:]:
        while sequence.ids[: len(shared)] != shared:
            shared = shared[:-1]
    return shared


def can_share_prefix(parts: ModelParts) -> bool:
    """Whether every block attends to the whole past, so that a remembered prefix means the same to each."""
    config = parts.body.config
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return set(kinds) == {"full_attention"}
    return getattr(config, "sliding_window", None) is None


@dataclass(frozen=True)
class Prefix:
    """The run of tokens that all sequences of a batch begin with: a chat template's system message, most of all.

    A causal model computes the same for them in every sequence, so they are run once and their keys and values are
    handed to every batch.

    Attributes:
        ids: the tokens; empty where nothing is shared.
        cache: keys and values of every block; None where nothing is shared.
        hidden: the residual stream leaving every block, ``[length, d_model]``.
    """

    ids: tuple[int, ...]
    cache: Any
    hidden: dict[int, Float[Tensor, "length d_model"]]

    @property
    def length(self) -> int:
        """Number of shared tokens."""
        return len(self.ids)

    @classmethod
    @torch.no_grad()
    def of(cls, parts: ModelParts, ids: tuple[int, ...], device: torch.device) -> "Prefix":
        """Run the shared tokens once."""
        if not ids:
            return cls((), None, {})
        with _watch(parts, range(parts.n_blocks)) as seen:
            cache = parts.body(input_ids=torch.tensor([ids], device=device), use_cache=True).past_key_values
        return cls(ids, cache, {layer: value[0] for layer, value in seen.items()})

    def run(self, parts: ModelParts, ids: Int[Tensor, "group length"]) -> Tensor | None:
        """Run what follows the shared tokens; None where a watch stopped the run."""
        try:
            if self.cache is None:
                return parts.body(input_ids=ids, use_cache=False).last_hidden_state
            past = copy.deepcopy(self.cache)
            past.batch_repeat_interleave(ids.shape[0])
            return parts.body(input_ids=ids, past_key_values=past, use_cache=True).last_hidden_state
        except _StopForward:
            return None


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
        self._prefixes: dict[Side, Prefix] = {}

    @torch.no_grad()
    def _probe(self) -> bool:
        """Whether this architecture's blocks return tuples; run once on one token."""
        with self.pair.on("tuned") as parts:
            kinds: list[bool] = []
            handle = parts.blocks[0].register_forward_hook(lambda _m, _i, out: kinds.append(isinstance(out, tuple)))
            try:
                parts.body(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self.pair.device), use_cache=False)
            finally:
                handle.remove()
        return kinds[0]

    @torch.no_grad()
    def capture(
        self, sequences: Sequence[Tokens], side: Side, layers: Sequence[int], *, outputs: bool = True
    ) -> Activations:
        """Run whole sequences. With ``outputs=False`` the blocks above the last layer asked for are not run."""
        layout = Layout.of(sequences)
        pair, d_model = self.pair, self.pair.d_model
        hidden = {layer: torch.empty(layout.n_positions, d_model, dtype=pair.dtype) for layer in layers}
        final = _empty_final(layout, d_model, pair.dtype) if outputs else None
        with pair.on(side) as parts:
            prefix = self._prefix(parts, layout, side)
            for group in layout.batches(self.budget):
                ids = _pad(layout, group, prefix.length, pair.device)
                with _watch(parts, layers, stop=not outputs) as seen:
                    last = prefix.run(parts, ids)
                for layer in layers:
                    _scatter(layout, group, seen[layer], hidden[layer], prefix.length)
                    _scatter_prefix(layout, group, prefix, layer, hidden[layer])
                if final is not None and last is not None:
                    _scatter_final(layout, group, last, final, prefix.length)
                self.tick(ids.numel())
        return Activations(layout, hidden, final)

    def _prefix(self, parts: ModelParts, layout: Layout, side: Side) -> "Prefix":
        """The run of the tokens that all sequences begin with, remembered from one call to the next."""
        shared = common_prefix(layout.sequences) if can_share_prefix(parts) else ()
        known = self._prefixes.get(side)
        if known is None or known.ids != shared:
            known = Prefix.of(parts, shared, self.pair.device)
            self._prefixes[side] = known
        return known

    @torch.no_grad()
    def resume(
        self, layout: Layout, layer: int, hidden: Float[Tensor, "positions d_model"], side: Side = "tuned"
    ) -> Float[Tensor, "sequences outputs d_model"]:
        """Run only the blocks above ``layer`` from a given residual stream; the result is an ``Activations.final``.

        The residual stream of the tokens that all sequences begin with must be the unchanged one.
        """
        final = _empty_final(layout, self.pair.d_model, self.pair.dtype)
        with self.pair.on(side) as parts:
            prefix = self._prefix(parts, layout, side)
            for group in layout.batches(self.budget):
                ids = _pad(layout, group, prefix.length, self.pair.device)
                start = _gather(layout, group, hidden, self.pair, prefix.length)
                with _skip_to(parts, layer, start, self._tuples):
                    last = prefix.run(parts, ids)
                assert last is not None
                _scatter_final(layout, group, last, final, prefix.length)
                self.tick(ids.numel())
        return final

    def gradients(
        self,
        layout: Layout,
        layers: Sequence[int],
        hidden: Float[Tensor, "positions d_model"],
        loss: Callable[[ModelParts, list[int], Float[Tensor, "group outputs d_model"]], Float[Tensor, ""]],
    ) -> dict[int, Float[Tensor, "positions d_model"]]:
        """Gradient of a sum over sequences with respect to the residual stream at each layer, one backward pass.

        Args:
            layout: the sequences of the run.
            layers: ascending; the run begins at the first.
            hidden: residual stream leaving the first layer.
            loss: from the group's indices and the head's inputs to a scalar summed over the group.

        Returns:
            Per layer, float32 gradients laid out as ``hidden``; zero at the tokens that all sequences begin with.
        """
        grads = {layer: torch.zeros(layout.n_positions, self.pair.d_model) for layer in layers}
        with self.pair.on("tuned") as parts:
            prefix = self._prefix(parts, layout, "tuned")
            for group in layout.batches(self.budget):
                ids = _pad(layout, group, prefix.length, self.pair.device)
                start = _gather(layout, group, hidden, self.pair, prefix.length).requires_grad_(True)
                with (
                    torch.enable_grad(),
                    _skip_to(parts, layers[0], start, self._tuples),
                    _watch(parts, layers[1:], keep_grad=True) as seen,
                ):
                    last = prefix.run(parts, ids)
                    assert last is not None
                    total = loss(parts, group, _take_final(layout, group, last, prefix.length))
                    total.backward()  # type: ignore[no-untyped-call]
                for layer, value in [(layers[0], start), *((layer, seen[layer]) for layer in layers[1:])]:
                    assert value.grad is not None
                    _scatter(layout, group, value.grad, grads[layer], prefix.length)
                self.tick(2 * ids.numel())
        return grads

    @torch.no_grad()
    def unembed(self, rows: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows vocabulary"]:
        """Logit lens: what the last norm and the head of the fine-tuned model make of rows of the residual stream.

        Each row is brought to a root mean square of 1 and the norm applied to it alone, so its length does not matter.
        What norm and head give for a row of zeros (their biases) is taken off, and a cap on the logits is left out.
        """
        with self.pair.on("tuned") as parts:
            scaled = rows.float() / rows.float().square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
            hidden = torch.cat([scaled, torch.zeros_like(scaled[:1])]).unsqueeze(0)
            hidden = hidden.to(device=self.pair.device, dtype=self.pair.dtype)
            ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=self.pair.device)
            with _skip_to(parts, parts.n_blocks - 1, hidden, self._tuples):
                normed = parts.body(input_ids=ids, use_cache=False).last_hidden_state[0]
            logits = replace(parts, softcap=None).logits(normed).cpu()
        return logits[:-1] - logits[-1]

    @torch.no_grad()
    def greedy(self, prompts: Sequence[Tokens], n_tokens: int, side: Side = "tuned") -> list[tuple[int, ...]]:
        """Greedy continuation of exactly ``n_tokens`` tokens; an end-of-text token is never chosen."""
        if n_tokens == 0:
            return [()] * len(prompts)
        from transformers import GenerationConfig

        model: Any = self.pair.models[side]
        if hasattr(model, "get_base_model"):  # PEFT's wrapper puts its own settings over the model's
            model = model.get_base_model()
        tokenizer = self.pair.tokenizer
        pad = pad_token(tokenizer)
        config = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False, max_new_tokens=n_tokens, min_new_tokens=n_tokens, pad_token_id=pad,
            eos_token_id=tokenizer.eos_token_id, use_cache=True,
        )  # fmt: skip
        layout = Layout.of(prompts)
        found: dict[int, tuple[int, ...]] = {}
        with self.pair.on(side) as parts, contiguous_input(parts.head), plain_generation(model):
            for group in layout.batches(self.budget):
                ids, mask = left_padded([prompts[index] for index in group], pad, self.pair.device)
                out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
                for row, index in enumerate(group):
                    found[index] = tuple(int(token) for token in out[row, ids.shape[1] :])
                self.tick(ids.numel())
        return [found[index] for index in range(len(prompts))]


def pad_token(tokenizer: Any) -> int:
    """What fills the place before shorter prompts; it is never attended to."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0))


def left_padded(
    prompts: Sequence[Tokens], pad: int, device: torch.device
) -> tuple[Int[Tensor, "prompts length"], Int[Tensor, "prompts length"]]:
    """Token ids padded on the left, as generation wants them, and the mask of what is not padding."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt.ids)
        mask[row, longest - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


@contextlib.contextmanager
def plain_generation(model: Any) -> Iterator[None]:
    """Set the checkpoint's own generation settings aside: transformers fills what is not set from them.

    A repetition penalty, say, would otherwise make "greedy" something else, and differ between checkpoints.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.generation_config = own


@contextlib.contextmanager
def contiguous_input(module: nn.Module) -> Iterator[None]:
    """Hand a linear layer contiguous inputs: for a sliced batch, matmul would copy the whole weight once a row."""
    handle = module.register_forward_pre_hook(lambda _module, inputs: (inputs[0].contiguous(), *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()


class _StopForward(Exception):
    """Everything that was asked for has been seen."""


@contextlib.contextmanager
def _watch(
    parts: ModelParts, layers: Sequence[int], *, stop: bool = False, keep_grad: bool = False
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

    handles = [parts.blocks[layer].register_forward_hook(hook(layer)) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _skip_to(parts: ModelParts, layer: int, hidden: Tensor, as_tuple: bool) -> Iterator[None]:
    """Let blocks 0…``layer`` do nothing and give ``hidden``."""

    def forward(*_args: Any, **_kwargs: Any) -> Any:
        return (hidden,) if as_tuple else hidden

    skipped = [parts.blocks[index] for index in range(layer + 1)]
    before = [vars(block).get("forward") for block in skipped]  # one of a block whose weights lie elsewhere
    for block in skipped:
        block.forward = forward
    try:
        yield
    finally:
        for block, own in zip(skipped, before, strict=True):
            if own is None:
                del block.forward
            else:
                block.forward = own


def _pad(layout: Layout, group: list[int], skip: int, device: torch.device) -> Int[Tensor, "group length"]:
    longest = max(len(layout.sequences[index]) for index in group) - skip
    ids = torch.zeros(len(group), longest, dtype=torch.long)
    for row, index in enumerate(group):
        sequence = layout.sequences[index].ids[skip:]
        ids[row, : len(sequence)] = torch.tensor(sequence)
    return ids.to(device)


def _gather(
    layout: Layout, group: list[int], flat: Tensor, pair: ModelPair, skip: int
) -> Float[Tensor, "group length d_model"]:
    longest = max(len(layout.sequences[index]) for index in group) - skip
    out = torch.zeros(len(group), longest, flat.shape[-1], dtype=pair.dtype, device=pair.device)
    for row, index in enumerate(group):
        rows = layout.rows(index)[skip:]
        out[row, : len(rows)] = flat[rows.start : rows.stop].to(device=pair.device, dtype=pair.dtype)
    return out


def _scatter(layout: Layout, group: list[int], values: Tensor, flat: Tensor, skip: int) -> None:
    for row, index in enumerate(group):
        rows = layout.rows(index)[skip:]
        flat[rows.start : rows.stop] = values[row, : len(rows)].to(device=flat.device, dtype=flat.dtype)


def _scatter_prefix(layout: Layout, group: list[int], prefix: Prefix, layer: int, flat: Tensor) -> None:
    if prefix.length:
        shared = prefix.hidden[layer].to(device=flat.device, dtype=flat.dtype)
        for index in group:
            flat[layout.starts[index] : layout.starts[index] + prefix.length] = shared


def _empty_final(layout: Layout, d_model: int, dtype: torch.dtype) -> Tensor:
    first = layout.sequences[0]
    return torch.empty(len(layout), len(first) - first.prompt_length + 1, d_model, dtype=dtype)


def _take_final(layout: Layout, group: list[int], last: Tensor, skip: int) -> Float[Tensor, "group outputs d_model"]:
    picked = []
    for row, index in enumerate(group):
        sequence = layout.sequences[index]
        picked.append(last[row, sequence.prompt_length - 1 - skip : len(sequence) - skip])
    return torch.stack(picked)


def _scatter_final(layout: Layout, group: list[int], last: Tensor, final: Tensor, skip: int) -> None:
    final[group] = _take_final(layout, group, last, skip).to(device=final.device, dtype=final.dtype)
