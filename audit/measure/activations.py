"""Captures on disk: one safetensors file and one small JSON a folder, written whole or not at all."""

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

from audit.models.runner import Capture, Layout, Runner
from audit.ports import FolderStore
from audit.prompts.rendering import Tokens

# Raised whenever what a cached capture holds changes, so that an old one is never taken for a new one.
CAPTURE_VERSION: Final = "1"
_TENSORS, _LAYOUT = "activations.safetensors", "sequences.json"


def write_capture(folder: Path, capture: Capture) -> None:
    """Write a capture into an empty folder."""
    tensors = {f"hidden.{layer}": value.contiguous() for layer, value in capture.hidden.items()}
    if capture.final is not None:
        tensors["final"] = capture.final.contiguous()
    save_file(tensors, folder / _TENSORS)
    rows = [[list(item.ids), item.prompt_length, item.span_start] for item in capture.layout.sequences]
    (folder / _LAYOUT).write_text(json.dumps(rows), encoding="utf-8")


def read_capture(folder: Path) -> Capture:
    """Read a capture; the activations are memory-mapped."""
    tensors = load_file(folder / _TENSORS)
    rows = json.loads((folder / _LAYOUT).read_text(encoding="utf-8"))
    layout = Layout.of([Tokens(tuple(ids), length, start) for ids, length, start in rows])
    hidden = {int(name.split(".")[1]): value for name, value in tensors.items() if name.startswith("hidden.")}
    return Capture(layout, hidden, tensors.get("final"))


def first(capture: Capture, count: int) -> Capture:
    """The capture of the first ``count`` sequences, without a copy."""
    layout = Layout.of(capture.layout.sequences[:count])
    rows = layout.n_positions
    final = None if capture.final is None else capture.final[:count]
    return Capture(layout, {layer: value[:rows] for layer, value in capture.hidden.items()}, final)


def after(capture: Capture, count: int) -> Capture:
    """The capture of all but the first ``count`` sequences, without a copy."""
    layout = Layout.of(capture.layout.sequences[count:])
    begin = capture.layout.n_positions - layout.n_positions
    final = None if capture.final is None else capture.final[count:]
    return Capture(layout, {layer: value[begin:] for layer, value in capture.hidden.items()}, final)


def span_rows(layout: Layout) -> Int[Tensor, "rows"]:
    """Rows of prompt tokens from the string on.

    What stands before the string is the same under every string and says nothing about it; attention sinks, whose
    activations are a hundred times larger than any other, are there as well.
    """
    rows: list[int] = []
    for index in range(len(layout)):
        rows.extend(layout.prompt_span_rows(index))
    return torch.tensor(rows, dtype=torch.long)


@dataclass
class BaseRuns:
    """Runs the base on prompts alone and remembers them for every later audit of the same base.

    Attributes:
        hits, misses: how many runs came from the cache, and how many did not.
    """

    runner: Runner
    layers: tuple[int, ...]
    base_digest: str
    cache: FolderStore | None
    hits: int = 0
    misses: int = 0

    def capture(self, prompts: Sequence[Tokens]) -> Capture:
        """The base's capture of prompts, from the cache where it is there."""
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
        capture = self.runner.capture(bare, "base", self.layers)
        with self.cache.create(key) as folder:
            write_capture(folder, capture)
        return capture

    @staticmethod
    def _cached(cache: FolderStore, key: str) -> Capture | None:
        """What the cache has; an entry that has gone meanwhile, or is damaged, is none and is computed anew."""
        found = cache.find(key)
        if found is None:
            return None
        try:
            return read_capture(found)
        except (OSError, ValueError, TypeError, LookupError, SafetensorError):
            cache.remove(key)
            return None

    def _key(self, prompts: Sequence[Tokens]) -> str:
        """Everything that the activations depend on: weights, tokens, layers, dtype, device, batches and this code."""
        pair = self.runner.pair
        digest = hashlib.sha256()
        fixed = (CAPTURE_VERSION, torch.__version__, self.base_digest, pair.precision, pair.device.type)
        digest.update(json.dumps([*fixed, self.runner.budget, *self.layers]).encode())
        for prompt in prompts:
            digest.update(json.dumps([list(prompt.ids), prompt.span_start]).encode())
        return digest.hexdigest()
