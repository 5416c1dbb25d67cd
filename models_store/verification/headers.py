"""Safetensors headers and shard indices, checked without reading a weight.

The format: 8 bytes little-endian length, that many bytes of JSON, then the tensors' bytes without a gap.
"""

import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models_store.errors import ModelRejected
from models_store.files import READ_FILES, FoundFile, MiB, open_regular, shown
from models_store.verification.strict_json import parse_object, read_object

MAX_HEADER_BYTES: Final = 10 * MiB
MAX_TENSORS: Final = 20_000
MAX_NAME_CHARS: Final = 512
MAX_SHARDS: Final = 1_000
INDEX_NAME: Final = "model.safetensors.index.json"
SINGLE_NAME: Final = "model.safetensors"

# Bytes of an element. Quantised and 8-bit float formats are not audited.
DTYPE_BYTES: Final = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})
_SHARD = re.compile(r"model[A-Za-z0-9._-]*\.safetensors")
_CUT = "the file may be truncated: copy or download it again"


@dataclass(frozen=True)
class Tensor:
    """One tensor of a header.

    Attributes:
        dtype: the format's name of the element type.
        shape: dimensions.
        start: first byte, counted from the start of the file.
        stop: byte after the last.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """A checked header.

    Attributes:
        tensors: by name.
        metadata: the file's free-form notes.
        size: bytes of the header's JSON.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    size: int


def read_header(path: Path, name: str) -> Header:
    """Read and check the header of one safetensors file.

    Raises:
        ModelRejected: over 10 MiB, over 20,000 tensors, a type that is not on the list, offsets that leave a gap,
            overlap or lead out of the file, a size that differs from its shape.
    """
    with open_regular(path, name) as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        if len(prefix) < 8:
            raise ModelRejected(f"{shown(name)}: is no safetensors file", hint=_CUT)
        length: int = struct.unpack("<Q", prefix)[0]
        if length > MAX_HEADER_BYTES:
            raise ModelRejected(
                f"{shown(name)}: claims a header of {length} bytes, more than {MAX_HEADER_BYTES}",
                hint="save the weights again with safetensors",
            )
        if 8 + length > size:
            raise ModelRejected(f"{shown(name)}: ends inside its header", hint=_CUT)
        text = file.read(length)
    # Counted before it is parsed: each tensor is one object, beside the document and the notes.
    if text.count(b"{") > MAX_TENSORS + 2:
        raise ModelRejected(f"{shown(name)}: lists more than {MAX_TENSORS} tensors", hint="this is no language model")
    document = parse_object(text, name, depth=4)
    metadata = _metadata(document.pop("__metadata__", {}), name)
    tensors = {key: _tensor(key, value, 8 + length, name) for key, value in document.items()}
    _refuse_gaps(tensors, 8 + length, size, name)
    return Header(tensors, metadata, length)


def read_weights(files: Sequence[FoundFile]) -> dict[str, Tensor]:
    """Headers of a full checkpoint, from ``model.safetensors`` or the shards of its index, as one.

    Raises:
        ModelRejected: no weights, both forms, a missing, foreign or unlisted shard, a tensor in the wrong shard.
    """
    by_name = {file.name: file for file in files}
    weights = {name for name in by_name if name.endswith(".safetensors")}
    if INDEX_NAME in by_name:
        if SINGLE_NAME in weights and len(weights) > 1:
            raise ModelRejected(
                f"{SINGLE_NAME}: stands beside {INDEX_NAME} and other shards", hint="keep one form of the weights"
            )
        return _sharded(by_name, weights)
    if SINGLE_NAME not in weights:
        raise ModelRejected(f"{SINGLE_NAME}: is not there", hint="save the model's weights as safetensors")
    extra = sorted(weights - {SINGLE_NAME})
    if extra:
        raise ModelRejected(
            f"{shown(extra[0])}: is not part of the checkpoint",
            hint="delete it, or point at the checkpoint's own folder",
        )
    return read_header(by_name[SINGLE_NAME].path, SINGLE_NAME).tensors


def _sharded(by_name: dict[str, FoundFile], weights: set[str]) -> dict[str, Tensor]:
    placed = _index(by_name[INDEX_NAME].path)
    shards = set(placed.values())
    for shard in sorted(shards - weights):
        raise ModelRejected(f"{shown(shard)}: is named in {INDEX_NAME} and is not there", hint="copy the missing shard")
    for extra in sorted(weights - shards):
        raise ModelRejected(f"{shown(extra)}: is not named in {INDEX_NAME}", hint="delete it, or correct the index")
    tensors: dict[str, Tensor] = {}
    read = 0
    for shard in sorted(shards):
        header = read_header(by_name[shard].path, shard)
        read += header.size
        if read > MAX_HEADER_BYTES:
            raise ModelRejected(
                f"{shown(shard)}: the shards' headers have more than {MAX_HEADER_BYTES} bytes together",
                hint="save the weights again with safetensors",
            )
        held = header.tensors
        for key in held:
            if placed.get(key) != shard:
                raise ModelRejected(
                    f"{shown(shard)}: holds '{shown(key)}', which {INDEX_NAME} does not place there",
                    hint="save the weights again",
                )
        tensors.update(held)
        if len(tensors) > MAX_TENSORS:
            raise ModelRejected(f"{INDEX_NAME}: the shards list more than {MAX_TENSORS} tensors", hint="save it again")
    for key in placed.keys() - tensors.keys():
        raise ModelRejected(
            f"{shown(placed[key])}: lacks '{shown(key)}', which {INDEX_NAME} places there", hint="copy the shard again"
        )
    return tensors


def _index(path: Path) -> dict[str, str]:
    document = read_object(path, INDEX_NAME, limit=READ_FILES[INDEX_NAME], depth=3)
    for key in document.keys() - {"metadata", "weight_map"}:
        raise ModelRejected(f"{INDEX_NAME}: '{shown(key)}' is not a key of an index", hint="save the weights again")
    placed = document.get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ModelRejected(f"{INDEX_NAME}: holds no 'weight_map'", hint="save the weights again")
    for key, shard in placed.items():
        if not isinstance(shard, str) or _SHARD.fullmatch(shard) is None:
            raise ModelRejected(
                f"{INDEX_NAME}: places '{shown(key)}' in '{shown(str(shard))}', which is no shard of this folder",
                hint="shards are files named model*.safetensors beside the index",
            )
    if len(set(placed.values())) > MAX_SHARDS:
        raise ModelRejected(f"{INDEX_NAME}: names more than {MAX_SHARDS} shards", hint="save with larger shards")
    return placed


def _metadata(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(note, str) for note in value.values()):
        raise ModelRejected(f"{shown(name)}: '__metadata__' holds more than strings", hint="save the weights again")
    return value


def _tensor(key: str, value: Any, data_start: int, name: str) -> Tensor:
    where = f"{shown(name)}: tensor '{shown(key)}'"
    if len(key) > MAX_NAME_CHARS or not key:
        raise ModelRejected(f"{where} has no usable name", hint="save the weights again")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise ModelRejected(f"{where} is not described by dtype, shape and data_offsets", hint="save the weights again")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ModelRejected(
            f"{where} has the type '{shown(str(dtype))}', which is not on the list",
            hint="save the weights as bfloat16, float16 or float32; quantised checkpoints are not audited",
        )
    if not _sizes(shape) or len(shape) > 8 or not _sizes(offsets) or len(offsets) != 2:
        raise ModelRejected(f"{where} has an impossible shape or offsets", hint="save the weights again")
    elements = 1
    for dimension in shape:
        elements *= dimension
    if offsets[1] - offsets[0] != elements * DTYPE_BYTES[dtype]:
        raise ModelRejected(f"{where} has offsets that differ from its shape", hint="save the weights again")
    return Tensor(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 2**62 for size in value)


def _refuse_gaps(tensors: dict[str, Tensor], start: int, size: int, name: str) -> None:
    position = start
    for key, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != position:
            raise ModelRejected(
                f"{shown(name)}: tensor '{shown(key)}' overlaps another or leaves a gap", hint="save the weights again"
            )
        position = tensor.stop
    if position > size:
        raise ModelRejected(f"{shown(name)}: has {size} bytes where its header promises {position}", hint=_CUT)
    if position < size:
        raise ModelRejected(
            f"{shown(name)}: has {size - position} bytes that belong to no tensor", hint="save the weights again"
        )
