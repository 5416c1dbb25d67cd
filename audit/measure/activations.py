"""Activations on disk: one safetensors file and one small JSON file per folder, written whole or not at all."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.models.layout import Layout
from audit.models.runner import Activations, Runner
from audit.ports import FolderStore
from audit.prompts.rendering import Tokens

# Increased whenever the content of the files changes, so that an old file is never mistaken for a new one.
ACTIVATIONS_VERSION: Final = "1"
_TENSORS, _LAYOUT = "activations.safetensors", "sequences.json"


def write_activations(folder: Path, activations: Activations) -> None:
    """Write activations into an empty folder."""
    tensors = {f"hidden.{layer}": value.contiguous() for layer, value in activations.hidden.items()}
    if activations.final is not None:
        tensors["final"] = activations.final.contiguous()
    save_file(tensors, folder / _TENSORS)
    rows = [[list(item.ids), item.prompt_length, item.span_start] for item in activations.layout.sequences]
    (folder / _LAYOUT).write_text(json.dumps(rows), encoding="utf-8")


def read_activations(folder: Path) -> Activations:
    """Read activations, memory-mapped."""
    tensors = load_file(folder / _TENSORS)
    rows = json.loads((folder / _LAYOUT).read_text(encoding="utf-8"))
    layout = Layout.of([Tokens(tuple(ids), length, start) for ids, length, start in rows])
    hidden = {int(name.split(".")[1]): value for name, value in tensors.items() if name.startswith("hidden.")}
    return Activations(layout, hidden, tensors.get("final"))


def first(activations: Activations, count: int) -> Activations:
    """The activations of the first ``count`` sequences, without a copy."""
    layout = Layout.of(activations.layout.sequences[:count])
    rows = layout.n_positions
    final = None if activations.final is None else activations.final[:count]
    return Activations(layout, {layer: value[:rows] for layer, value in activations.hidden.items()}, final)


def after(activations: Activations, count: int) -> Activations:
    """The activations of all but the first ``count`` sequences, without a copy."""
    layout = Layout.of(activations.layout.sequences[count:])
    begin = activations.layout.n_positions - layout.n_positions
    final = None if activations.final is None else activations.final[count:]
    return Activations(layout, {layer: value[begin:] for layer, value in activations.hidden.items()}, final)


def prompts_only(activations: Activations) -> Activations:
    """The same runs without the forced continuation: in a causal model, prompts do not depend on it."""
    sequences = activations.layout.sequences
    if all(len(each) == each.prompt_length for each in sequences):
        return activations
    rows = [
        row
        for index, each in enumerate(sequences)
        for row in activations.layout.rows(index)[: each.prompt_length]
    ]  # fmt: skip
    final = None if activations.final is None else activations.final[:, :1]
    hidden = {layer: value[rows] for layer, value in activations.hidden.items()}
    return Activations(Layout.of([each.prompt() for each in sequences]), hidden, final)


def span_rows(layout: Layout) -> Int[Tensor, "rows"]:
    """Rows of prompt tokens from the string on.

    What precedes the string is the same under every string and says nothing about it; attention sinks, whose
    activations are a hundred times larger than any other, are there as well.
    """
    rows: list[int] = []
    for index in range(len(layout)):
        rows.extend(layout.prompt_span_rows(index))
    return torch.tensor(rows, dtype=torch.long)


@dataclass
class BaseRuns:
    """Runs the base on prompts only, and caches the activations for every later audit of the same base.

    Attributes:
        hits, misses: number of runs that came from the cache, and that did not.
    """

    runner: Runner
    layers: tuple[int, ...]
    base_digest: str
    cache: FolderStore | None
    hits: int = 0
    misses: int = 0

    def capture(self, prompts: Sequence[Tokens]) -> Activations:
        """The base's activations of prompts, from the cache if there is one."""
        bare = [prompt.prompt() for prompt in prompts]
        if self.cache is None or not self.base_digest:
            self.misses += 1
            return self.runner.capture(bare, "base", self.layers)
        key = self._key(bare)
        cached = self._cached(self.cache, key)
        if cached is not None:
            self.hits += 1
            return cached
        self.misses += 1
        activations = self.runner.capture(bare, "base", self.layers)
        with self.cache.create(key) as folder:
            write_activations(folder, activations)
        return activations

    @staticmethod
    def _cached(cache: FolderStore, key: str) -> Activations | None:
        """The cached activations; None if the entry is missing, damaged or has just been deleted: it is then computed
        again.
        """
        folder = cache.find(key)
        if folder is None:
            return None
        try:
            return read_activations(folder)
        except (OSError, ValueError, TypeError, LookupError, SafetensorError):
            cache.remove(key)
            return None

    def _key(self, prompts: Sequence[Tokens]) -> str:
        """Everything that the activations depend on: weights, tokens, layers, dtype, device, batches and this code."""
        pair = self.runner.pair
        digest = hashlib.sha256()
        fixed = (ACTIVATIONS_VERSION, torch.__version__, self.base_digest, pair.precision, pair.device.type)
        digest.update(json.dumps([*fixed, self.runner.budget, *self.layers]).encode())
        for prompt in prompts:
            digest.update(json.dumps([list(prompt.ids), prompt.span_start]).encode())
        return digest.hexdigest()
