"""Safetensors headers and shard indices, checked without reading a weight.

The format: 8 bytes little-endian length, that many bytes of JSON, then the tensors' bytes without a gap.
"""

import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backdoor_audit.contract.checkpoint_files import INDEX, LIMITS, SHARD, WEIGHTS
from models_store.errors import ModelRejected
from models_store.files import FoundFile, MiB, open_regular, refuse_pointer, shown
from models_store.verification.strict_json import parse_object, read_object

MAX_HEADER_BYTES: Final = 10 * MiB
MAX_TENSORS: Final = 20_000
MAX_NAME_CHARS: Final = 512
MAX_SHARDS: Final = 1_000

# Bytes of an element. Those of a byte and whole numbers stand for weights only where these are quantised.
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
    "F8_E4M3": 1,
    "F8_E8M0": 1,
}
# Buffers that earlier releases saved and the present one ignores.
OLD_BUFFERS: Final = re.compile(
    r"rotary_emb\.inv_freq|(?:.+\.)?(?:attn|attention)\.(?:masked_)?bias|.+\.rotary_emb\.inv_freq"
)
FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})
_SAVE: Final = "save the model with save_pretrained(folder), which writes safetensors"
_CUT: Final = "the file may be truncated: copy or download it again"


@dataclass(frozen=True)
class Tensor:
    """One tensor of a header.

    Attributes:
        dtype: the format's name of the element type.
        shape: dimensions.
        start: first byte, counted from the start of the file.
        stop: byte after the last.
        file: name of the file that holds it.
        packed: whether the bytes are not the values, which come of unpacking them.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int
    file: str = ""
    packed: bool = False


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
        refuse_pointer(prefix + file.read(15), name)
        file.seek(8)
        if len(prefix) < 8:
            raise ModelRejected(f"{shown(name)}: is not a safetensors file", hint=_CUT)
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
        raise ModelRejected(f"{shown(name)}: lists more than {MAX_TENSORS} tensors", hint="save the weights again")
    document = parse_object(text, name, depth=4)
    metadata = _metadata(document.pop("__metadata__", {}), name)
    tensors = {key: _tensor(key, value, 8 + length, name) for key, value in document.items()}
    _refuse_gaps(tensors, 8 + length, size, name)
    return Header(tensors, metadata, length)


def placed_shards(index: FoundFile | None) -> dict[str, str]:
    """Which shard each tensor is in, as the index says; empty if there is no index.

    Raises:
        ModelRejected: it is no index, or names a file that no shard can be.
    """
    if index is None:
        return {}
    document = read_object(index.path, INDEX, limit=LIMITS[INDEX], depth=None)
    placed = document.get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ModelRejected(f"{INDEX}: holds no 'weight_map'", hint="save the weights again")
    for key, shard in placed.items():
        if not isinstance(shard, str) or SHARD.fullmatch(shard) is None:
            raise ModelRejected(
                f"{INDEX}: places '{shown(key)}' in '{shown(str(shard))}', which is not a shard of this folder",
                hint="shards are safetensors files beside the index",
            )
    if len(set(placed.values())) > MAX_SHARDS:
        raise ModelRejected(f"{INDEX}: names more than {MAX_SHARDS} shards", hint="save with larger shards")
    return placed


def read_weights(files: Sequence[FoundFile], placed: Mapping[str, str]) -> dict[str, Tensor]:
    """Headers of a full checkpoint, from ``model.safetensors`` or the shards of its index, as one.

    Args:
        files: what counts of the folder.
        placed: which shard each tensor is in, from ``placed_shards``.

    Raises:
        ModelRejected: no weights, both forms, shards without an index, a missing shard, a tensor in two shards or in
            another than the index says. A tensor that the index names and no shard holds is left to ``check_weights``:
            a tied head need not be there.
    """
    by_name = {file.name: file for file in files}
    weights = {name for name in by_name if name.endswith(".safetensors")}
    if INDEX in by_name:
        if WEIGHTS in weights and len(weights) > 1:
            raise ModelRejected(
                f"{WEIGHTS}: stands beside {INDEX} and other shards, so which weights are meant is not known",
                hint="keep one form of the weights",
            )
        return _sharded(by_name, weights, placed)
    if WEIGHTS not in weights:
        if weights:
            raise ModelRejected(
                f"{INDEX}: is not there, and without it nobody knows which of {len(weights)} safetensors files belong "
                "together",
                hint="save the model again with save_pretrained, or copy its index",
            )
        raise ModelRejected(f"{WEIGHTS}: is not there", hint=_SAVE)
    return read_header(by_name[WEIGHTS].path, WEIGHTS).tensors


def _sharded(by_name: Mapping[str, FoundFile], weights: set[str], placed: Mapping[str, str]) -> dict[str, Tensor]:
    shards = set(placed.values())
    missing = sorted(shards - weights)
    if missing:
        raise ModelRejected(
            f"{shown(missing[0])}: is not there, and {INDEX} names it ({len(missing)} of {len(shards)} shards are "
            "missing)",
            hint="copy or download the missing shards",
        )
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
        for key in header.tensors:
            if key in tensors:
                raise ModelRejected(
                    f"{shown(shard)}: holds '{shown(key)}', which {shown(tensors[key].file)} holds as well",
                    hint="save the weights again into an empty folder",
                )
        tensors.update(header.tensors)
        if len(tensors) > MAX_TENSORS:
            raise ModelRejected(f"{INDEX}: the shards list more than {MAX_TENSORS} tensors", hint="save it again")
    for key, tensor in tensors.items():
        if placed.get(key) != tensor.file and (key in placed or OLD_BUFFERS.fullmatch(key) is None):
            raise ModelRejected(
                f"{shown(tensor.file)}: holds '{shown(key)}', which {INDEX} does not place there",
                hint="save the weights again into an empty folder",
            )
    return tensors


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
            hint="dequantise the model first, or audit the one that it was quantised from",
        )
    if not _sizes(shape) or len(shape) > 8 or not _sizes(offsets) or len(offsets) != 2:
        raise ModelRejected(f"{where} has an impossible shape or offsets", hint="save the weights again")
    elements = 1
    for dimension in shape:
        elements *= dimension
    if offsets[1] - offsets[0] != elements * DTYPE_BYTES[dtype]:
        raise ModelRejected(f"{where} has offsets that differ from its shape", hint="save the weights again")
    return Tensor(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1], name)


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
