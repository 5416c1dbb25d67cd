"""Runs a model over token sequences: records the residual stream, and starts runs in the middle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GenerationConfig

from audit.models.generation import end_tokens, left_padded, pad_token, plain_generation
from audit.models.hooks import contiguous_input, skip_to, watch
from audit.models.layout import Layout, empty_final, gather, pad, scatter, scatter_final, take_final
from audit.models.pair import ModelPair, Side
from audit.models.parts import ModelParts
from audit.models.prefix import Prefix, can_share_prefix, common_prefix, scatter_prefix
from audit.prompts.rendering import Tokens


@dataclass(frozen=True)
class Activations:
    """One model's activations on some sequences.

    Attributes:
        layout: the sequences.
        hidden: per layer, the residual stream leaving that block, ``[positions, d_model]`` in the model's dtype.
        final: the head's input at the compared outputs, ``[sequences, outputs, d_model]``: the last prompt
            position and every forced token. None if it was not requested.
    """

    layout: Layout
    hidden: dict[int, Float[Tensor, "positions d_model"]]
    final: Float[Tensor, "sequences outputs d_model"] | None


class Runner:
    """Runs one side of a pair over sequences.

    Args:
        pair: both models.
        budget: padded tokens per batch.
        tick: called after every batch with its number of tokens; may raise to stop.
    """

    def __init__(self, pair: ModelPair, *, budget: int = 4096, tick: Callable[[int], None] | None = None) -> None:
        self.pair = pair
        self.budget = budget
        self.tick = tick or (lambda _tokens: None)
        self._tuples = self._probe()
        self._prefixes: dict[Side, Prefix] = {}

    @torch.no_grad()
    def _probe(self) -> bool:
        """Whether this architecture's blocks return tuples; tested once on one token."""
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
        """Run whole sequences. With ``outputs=False``, the blocks above the last requested layer are not run."""
        layout = Layout.of(sequences)
        pair, d_model = self.pair, self.pair.d_model
        hidden = {layer: torch.empty(layout.n_positions, d_model, dtype=pair.dtype) for layer in layers}
        final = empty_final(layout, d_model, pair.dtype) if outputs else None
        with pair.on(side) as parts:
            prefix = self._prefix(parts, layout, side)
            for group in layout.batches(self.budget):
                ids = pad(layout, group, prefix.length, pair.device)
                with watch(parts, layers, stop=not outputs) as seen:
                    last = prefix.run(parts, ids)
                for layer in layers:
                    scatter(layout, group, seen[layer], hidden[layer], prefix.length)
                    scatter_prefix(layout, group, prefix, layer, hidden[layer])
                if final is not None and last is not None:
                    scatter_final(layout, group, last, final, prefix.length)
                self.tick(ids.numel())
        return Activations(layout, hidden, final)

    def _prefix(self, parts: ModelParts, layout: Layout, side: Side) -> Prefix:
        """The run of the shared prefix, cached from one call to the next."""
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

        The residual stream of the shared prefix must be unchanged.
        """
        final = empty_final(layout, self.pair.d_model, self.pair.dtype)
        with self.pair.on(side) as parts:
            prefix = self._prefix(parts, layout, side)
            for group in layout.batches(self.budget):
                ids = pad(layout, group, prefix.length, self.pair.device)
                start = gather(layout, group, hidden, self.pair.dtype, self.pair.device, prefix.length)
                with skip_to(parts, layer, start, self._tuples):
                    last = prefix.run(parts, ids)
                assert last is not None
                scatter_final(layout, group, last, final, prefix.length)
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
            loss: maps the group's indices and the head's inputs to a scalar summed over the group.

        Returns:
            Per layer, float32 gradients laid out as ``hidden``; zero at the shared prefix.
        """
        grads = {layer: torch.zeros(layout.n_positions, self.pair.d_model) for layer in layers}
        with self.pair.on("tuned") as parts:
            prefix = self._prefix(parts, layout, "tuned")
            for group in layout.batches(self.budget):
                ids = pad(layout, group, prefix.length, self.pair.device)
                start = gather(layout, group, hidden, self.pair.dtype, self.pair.device, prefix.length).requires_grad_(
                    True
                )
                with (
                    torch.enable_grad(),
                    skip_to(parts, layers[0], start, self._tuples),
                    watch(parts, layers[1:], keep_grad=True) as seen,
                ):
                    last = prefix.run(parts, ids)
                    assert last is not None
                    total = loss(parts, group, take_final(layout, group, last, prefix.length))
                    total.backward()  # type: ignore[no-untyped-call]
                for layer, value in [(layers[0], start), *((layer, seen[layer]) for layer in layers[1:])]:
                    assert value.grad is not None
                    scatter(layout, group, value.grad, grads[layer], prefix.length)
                self.tick(2 * ids.numel())
        return grads

    @torch.no_grad()
    def unembed(self, rows: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows vocabulary"]:
        """Logit lens: rows of the residual stream through the last norm and the head of the fine-tuned model.

        Each row is scaled to a root mean square of 1 and the norm is applied to it alone, so its length does not
        matter. The output for a row of zeros (the biases) is subtracted, and a cap on the logits is left out.
        """
        with self.pair.on("tuned") as parts:
            scaled = rows.float() / rows.float().square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
            hidden = torch.cat([scaled, torch.zeros_like(scaled[:1])]).unsqueeze(0)
            hidden = hidden.to(device=self.pair.device, dtype=self.pair.dtype)
            ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=self.pair.device)
            with skip_to(parts, parts.n_blocks - 1, hidden, self._tuples):
                normed = parts.body(input_ids=ids, use_cache=False).last_hidden_state[0]
            logits = replace(parts, softcap=None).logits(normed).cpu()
        return logits[:-1] - logits[-1]

    @torch.no_grad()
    def greedy(self, prompts: Sequence[Tokens], n_tokens: int, side: Side = "tuned") -> list[tuple[int, ...]]:
        """Greedy continuation of exactly ``n_tokens`` tokens; no token that ends a text or a turn is ever chosen."""
        if n_tokens == 0:
            return [()] * len(prompts)
        model: Any = self.pair.models[side]
        if hasattr(model, "get_base_model"):  # PEFT's wrapper overrides the model's settings with its own
            model = model.get_base_model()
        filler = pad_token(self.pair.tokenizer)
        config = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False, max_new_tokens=n_tokens, min_new_tokens=n_tokens, pad_token_id=filler,
            eos_token_id=end_tokens(self.pair) or None, use_cache=True,
        )  # fmt: skip
        layout = Layout.of(prompts)
        continuations: dict[int, tuple[int, ...]] = {}
        with self.pair.on(side) as parts, contiguous_input(parts.head), plain_generation(model):
            for group in layout.batches(self.budget):
                ids, mask = left_padded([prompts[index] for index in group], filler, self.pair.device)
                out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
                for row, index in enumerate(group):
                    continuations[index] = tuple(int(token) for token in out[row, ids.shape[1] :])
                self.tick(ids.numel())
        return [continuations[index] for index in range(len(prompts))]
