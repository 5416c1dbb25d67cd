"""Finding checkpoints below a folder."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MAX_LIST_DEPTH: Final = 4
# A folder that holds one of these is a checkpoint, or wants to be one.
_MARKS: Final = frozenset({"config.json", "adapter_config.json"})
_WEIGHTS: Final = (".safetensors", ".gguf")


def checkpoint_folders(root: Path) -> Iterator[Path]:
    """Folders below ``root`` that hold a configuration or weights; what is inside one of them is not looked at."""
    pending = [(root, 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            names = sorted(entry.name for entry in os.scandir(folder))
        except OSError:
            continue
        if depth > 0 and any(name in _MARKS or name.endswith(_WEIGHTS) for name in names):
            yield folder
        elif depth < _MAX_LIST_DEPTH:
            below = [folder / name for name in names if not name.startswith(".")]
            pending.extend((path, depth + 1) for path in reversed(below) if _folder_inside(path, root))


def _folder_inside(path: Path, root: Path) -> bool:
    try:
        return path.is_dir() and path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return False
