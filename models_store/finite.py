"""Looks for NaN and infinity in safetensors files, without torch and without holding a tensor in memory."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models_store.errors import ModelRejected
from models_store.files import default_root, open_regular, scan, shown
from models_store.verification.headers import read_header

# Bits of the exponent: all of them set means NaN or infinity, in every format here.
_EXPONENT: Final[dict[str, tuple[type[np.unsignedinteger], int]]] = {
    "BF16": (np.uint16, 0x7F80),
    "F16": (np.uint16, 0x7C00),
    "F32": (np.uint32, 0x7F800000),
    "F64": (np.uint64, 0x7FF0000000000000),
}
_CHUNK_BYTES: Final = 4 * 1024**2


def scan_non_finite(path: Path) -> str | None:
    """Name the first tensor that holds a NaN or an infinity; None when every value is finite.

    Args:
        path: a safetensors file, or a checkpoint's folder (all of its safetensors files).

    Raises:
        ModelRejected: the file is no safetensors file that ``verify_checkpoint`` takes, or became shorter meanwhile.
    """
    real = path.resolve()
    if real.is_dir():
        files = [
            (file.path, file.name) for file in scan(real, default_root(real)) if file.name.endswith(".safetensors")
        ]
    else:
        files = [(real, path.name)]
    for file, name in files:
        bad = _scan_file(file, name)
        if bad is not None:
            return bad
    return None


def _scan_file(path: Path, name: str) -> str | None:
    header = read_header(path, name)
    # Read rather than memory-mapped: a file that is cut meanwhile would end the process with SIGBUS.
    buffer = np.empty(_CHUNK_BYTES, dtype=np.uint8)
    with open_regular(path, name) as file:
        for key, tensor in sorted(header.tensors.items(), key=lambda item: item[1].start):
            if tensor.dtype not in _EXPONENT:
                continue
            file.seek(tensor.start)
            left = tensor.stop - tensor.start
            while left > 0:
                chunk = buffer[: min(left, _CHUNK_BYTES)]
                if file.readinto(chunk.data) != len(chunk):  # type: ignore[attr-defined]
                    raise ModelRejected(f"{shown(name)}: became shorter while it was read", hint="do not write to it")
                if _has_non_finite(chunk, tensor.dtype):
                    return key
                left -= len(chunk)
    return None


def _has_non_finite(data: NDArray[np.uint8], dtype: str) -> bool:
    kind, mask = _EXPONENT[dtype]
    bits = data.view(kind)
    return bool(np.any((bits & kind(mask)) == kind(mask)))
