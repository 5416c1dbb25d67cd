"""Tiny checkpoints, built without torch: a two-layer Llama and a LoRA adapter for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.tiny import (
    lora_config,
    lora_weights,
    write_json,
    write_model,
)


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tiny full checkpoint: folder (relative to tmp_path or absolute), changes of config.json."""

    def make(folder: str | Path = "model", *, seed: int = 0, **changes: Any) -> Path:
        return write_model(tmp_path / folder, seed=seed, **changes)

    return make


@pytest.fixture
def make_adapter(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tiny LoRA adapter: folder, weights, notes of the header, changes of adapter_config.json."""

    def make(
        folder: str | Path = "adapter",
        *,
        weights: dict[str, np.ndarray] | None = None,
        metadata: dict[str, str] | None = None,
        **changes: Any,
    ) -> Path:
        path = tmp_path / folder
        path.mkdir(parents=True)
        write_json(path / "adapter_config.json", lora_config(**changes))
        save_file(weights or lora_weights(), path / "adapter_model.safetensors", metadata=metadata)
        return path

    return make


@pytest.fixture
def edit_json() -> Callable[..., None]:
    """Changes keys of a JSON file in place."""

    def edit(path: Path, **changes: Any) -> None:
        document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        document.update(changes)
        write_json(path, document)

    return edit
