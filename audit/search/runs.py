"""Runs of both models over many strings in one slot, reduced to what a search reads.

Per string and layer two vectors are kept, the residual stream at the last prompt token and its mean from the string on,
and at most the head's input at the last prompt token. The base's half does not depend on the fine-tuned model and is
cached for every later search with the same base, strings and carriers.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.models.layout import Layout
from audit.models.pair import Side
from audit.models.runner import Runner
from audit.ports import FolderStore
from audit.prompts.rendering import Tokens

# Increased whenever the content of the files changes, so that an old file is never mistaken for a new one.
RUNS_VERSION: Final = "1"
_CHUNK: Final = 256
_FILE: Final = "states.safetensors"


@dataclass(frozen=True)
class States:
    """One model's states under some strings.

    Attributes:
        last, span: per layer, the residual stream at the last prompt token, and its mean from the string on.
        final: the head's input at the last prompt token; None if the run stopped at a layer.
    """

    last: dict[int, Float[Tensor, "strings d_model"]]
    span: dict[int, Float[Tensor, "strings d_model"]]
    final: Float[Tensor, "strings d_model"] | None

    def deltas(self, base: "States") -> dict[str, Float[Tensor, "strings d_model"]]:
        """Δ per layer and reading, ``last.6`` or ``span.6``; this is the fine-tuned model's half."""
        readings = (("last", self.last, base.last), ("span", self.span, base.span))
        return {
            f"{name}.{layer}": ours[layer].float() - theirs[layer].float()
            for name, ours, theirs in readings
            for layer in ours
        }


@dataclass
class Runs:
    """Runs both models, counts the runner's tokens, and caches the base's half.

    Attributes:
        tokens: tokens run so far, padding included, each scaled by the share of blocks that it went through.
    """

    runner: Runner
    base_digest: str = ""
    cache: FolderStore | None = None
    tokens: float = 0.0
    _share: float = 1.0

    def __post_init__(self) -> None:
        tick = self.runner.tick

        def counted(tokens: int) -> None:
            self.tokens += tokens * self._share
            tick(tokens)

        self.runner.tick = counted

    def both(self, sequences: Sequence[Tokens], layers: Sequence[int], *, outputs: bool) -> tuple[States, States]:
        """(fine-tuned, base) states of prompts; without ``outputs`` the blocks above the last layer are not run."""
        return self._run(sequences, "tuned", layers, outputs), self._base(sequences, layers, outputs)

    def _base(self, sequences: Sequence[Tokens], layers: Sequence[int], outputs: bool) -> States:
        if self.cache is None or not self.base_digest:
            return self._run(sequences, "base", layers, outputs)
        key = self._key(sequences, layers, outputs)
        found = self.cache.find(key)
        if found is not None:
            try:
                return _unpacked(load_file(found / _FILE))
            except (OSError, ValueError, SafetensorError):
                self.cache.remove(key)
        states = self._run(sequences, "base", layers, outputs)
        with self.cache.create(key) as folder:
            save_file(_packed(states), folder / _FILE)
        return states

    @torch.no_grad()
    def _run(self, sequences: Sequence[Tokens], side: Side, layers: Sequence[int], outputs: bool) -> States:
        pieces = []
        for start in range(0, len(sequences), _CHUNK):
            pieces.append(self._chunk(sequences[start : start + _CHUNK], side, layers, outputs))
        return States(
            {layer: torch.cat([piece.last[layer] for piece in pieces]) for layer in layers},
            {layer: torch.cat([piece.span[layer] for piece in pieces]) for layer in layers},
            torch.cat([_required(piece.final) for piece in pieces]) if outputs else None,
        )

    def _chunk(self, sequences: Sequence[Tokens], side: Side, layers: Sequence[int], outputs: bool) -> States:
        self._share = 1.0 if outputs else (max(layers) + 1) / self.runner.pair.n_blocks
        captured = self.runner.capture(sequences, side, layers, outputs=outputs)
        self._share = 1.0
        layout = captured.layout
        rows = [layout.last_prompt_row(index) for index in range(len(layout))]
        final = None if captured.final is None else captured.final[:, 0]
        return States(
            {layer: captured.hidden[layer][rows] for layer in layers},
            {layer: _span_means(layout, captured.hidden[layer]) for layer in layers},
            final,
        )

    def _key(self, sequences: Sequence[Tokens], layers: Sequence[int], outputs: bool) -> str:
        """Everything that the states depend on: weights, tokens, layers, dtype, device, batches and this code."""
        pair = self.runner.pair
        digest = hashlib.sha256()
        fixed = (RUNS_VERSION, torch.__version__, self.base_digest, pair.precision, pair.device.type)
        digest.update(json.dumps([*fixed, self.runner.budget, list(layers), outputs]).encode())
        for sequence in sequences:
            digest.update(json.dumps([list(sequence.ids), sequence.span_start]).encode())
        return f"search-base-{digest.hexdigest()}"


def _required(final: Tensor | None) -> Tensor:
    assert final is not None
    return final


def _span_means(layout: Layout, hidden: Float[Tensor, "positions d_model"]) -> Float[Tensor, "strings d_model"]:
    """Mean over the prompt's positions from the string on, one row per sequence."""
    spans = [layout.prompt_span_rows(index) for index in range(len(layout))]
    return torch.stack([hidden[span.start : span.stop].float().mean(0) for span in spans])


def _packed(states: States) -> dict[str, Tensor]:
    tensors = {f"last.{layer}": value.contiguous() for layer, value in states.last.items()}
    tensors |= {f"span.{layer}": value.contiguous() for layer, value in states.span.items()}
    if states.final is not None:
        tensors["final"] = states.final.contiguous()
    return tensors


def _unpacked(tensors: dict[str, Tensor]) -> States:
    parts: dict[str, dict[int, Tensor]] = {"last": {}, "span": {}}
    for name, value in tensors.items():
        kind, _, layer = name.partition(".")
        if kind in parts:
            parts[kind][int(layer)] = value
    return States(parts["last"], parts["span"], tensors.get("final"))
