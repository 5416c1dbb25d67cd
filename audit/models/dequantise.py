"""Weights that are stored in another form than floats, brought back to floats on the CPU.

Where each tensor lies was checked before a byte of it is read; the private view says it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backdoor_audit.contract.checkpoint_files import GGUF_SOURCES


def gguf_weights(folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """Tensors of a view's GGUF file, by transformers' names.

    Args:
        folder: a private view that holds such a file, and says where its tensors lie.
        dtype: what floats are brought to.
    """
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    sources = json.loads((folder / GGUF_SOURCES).read_text(encoding="utf-8"))
    files: dict[str, Any] = {}
    weights = {}
    for name, source in sources["tensors"].items():
        shape, rows, file = source["shape"], source["permuted_heads"], source["file"]
        if file not in files:
            files[file] = np.memmap(folder / file, mode="r", dtype=np.uint8)
        packed = files[file][source["start"] : source["stop"]].reshape(*shape[:-1], -1)
        values = torch.from_numpy(np.array(dequantize(packed, GGMLQuantizationType[source["type"]])))
        values = values.reshape(shape).float() - source["shift"] if source["shift"] else values.reshape(shape)
        weights[name] = (_unpermuted(values, rows) if rows else values).to(dtype)
    return weights


def _unpermuted(values: Tensor, heads: int) -> Tensor:
    """Rows of a head in transformers' order: llama.cpp rotates neighbours, transformers a row and its half's."""
    return values.reshape(heads, -1, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def gguf_tokens(folder: Path) -> list[str] | None:
    """The vocabulary of a view's GGUF file, by number; None where there is no such file."""
    path = folder / GGUF_SOURCES
    found: Any = json.loads(path.read_text(encoding="utf-8"))["tokens"] if path.is_file() else None
    return found
