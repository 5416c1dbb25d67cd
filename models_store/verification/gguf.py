"""GGUF headers, checked without reading a weight.

The format (versions 2 and 3, little-endian; ggml's docs/gguf.md): a magic, counts, metadata of typed values,
descriptions of the tensors, then their bytes, each aligned.
"""

import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from backdoor_audit.contract.checkpoint_files import gguf_parts
from models_store.errors import ModelRejected
from models_store.files import MiB, open_regular, refuse_pointer, shown
from models_store.verification.headers import MAX_TENSORS

MAX_METADATA_BYTES: Final = 64 * MiB
MAX_VALUES: Final = 4_096
MAX_ARRAY: Final = 2_000_000
_MAX_KEY: Final = 200
_MAX_TEXT: Final = 256 * 1024
_MAX_ALIGNMENT: Final = 4_096
_AGAIN: Final = "convert the model again with llama.cpp's convert_hf_to_gguf.py"
_CUT: Final = "the file may be truncated: copy or download it again"

# Number in the file: name, elements of a block, bytes of a block.
TYPES: Final[dict[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 20: ("IQ4_NL", 32, 18), 23: ("IQ4_XS", 256, 136),
    30: ("BF16", 1, 2),
}  # fmt: skip
_PLAIN: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING: Final = 8
_ARRAY: Final = 9
_TOKENS: Final = "tokenizer.ggml.tokens"


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of the file.

    Attributes:
        type: the format's name of its type.
        shape: dimensions as transformers counts them, the other way round than the file.
        start, stop: its bytes in the file.
        file: name of the file.
    """

    type: str
    shape: tuple[int, ...]
    start: int
    stop: int
    file: str


@dataclass(frozen=True)
class GgufHeader:
    """A checked header.

    Attributes:
        metadata: single values by key; lists are left out.
        tokens: the vocabulary, by number.
        tensors: by the file's names.
    """

    metadata: Mapping[str, Any]
    tokens: tuple[str, ...]
    tensors: Mapping[str, GgufTensor]


def require_one_model(names: Sequence[str]) -> tuple[str, ...]:
    """The GGUF files of a folder, which must be of one model.

    Raises:
        ModelRejected: they are several models, or some parts of one.
    """
    parts = gguf_parts(names)
    if not parts:
        beside = f" stands beside {shown(names[1])}" if len(names) > 1 else " is alone"
        raise ModelRejected(
            f"{shown(names[0])}:{beside}; which of them is meant, or where other parts are, is not known",
            hint="keep one GGUF file, or all parts of one (-00001-of-0000N), in a folder of its own",
        )
    return parts


def read_parts(files: Sequence[tuple[Path, str]]) -> GgufHeader:
    """Read and check the headers of a model's files: one, or the parts that llama.cpp's ``gguf-split`` made of it.

    Args:
        files: path and name of each, in the order of their numbers.

    Raises:
        ModelRejected: as ``read_gguf``; parts that are missing, of another model, or that hold a tensor twice.
    """
    headers = [read_gguf(path, name) for path, name in files]
    tensors: dict[str, GgufTensor] = {}
    for number, (header, (_, name)) in enumerate(zip(headers, files, strict=True)):
        numbers = tuple(header.metadata.get(f"split.{key}", default) for key, default in (("count", 1), ("no", 0)))
        if numbers != (len(files), number):
            raise ModelRejected(
                f"{shown(name)}: says that it is one of {numbers[0]} parts, number {numbers[1]} from 0, and there are "
                f"{len(files)} files",
                hint="copy or download all parts, under the names that they had",
            )
        for key in sorted(tensors.keys() & header.tensors.keys()):
            raise ModelRejected(f"{shown(name)}: holds tensor '{shown(key)}', as another part does", hint=_AGAIN)
        tensors |= header.tensors
    promised = headers[0].metadata.get("split.tensors.count", len(tensors))
    if promised != len(tensors):
        raise ModelRejected(f"{shown(files[0][1])}: promises {promised} tensors; {len(tensors)} are there", hint=_AGAIN)
    return GgufHeader(headers[0].metadata, headers[0].tokens, tensors)


class _Reader:
    """Reads the header's values in order, never more than ``MAX_METADATA_BYTES`` of them."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name, self.position = file, name, 0

    def take(self, count: int) -> bytes:
        self.position += count
        if self.position > MAX_METADATA_BYTES:
            raise ModelRejected(f"{self._name}: its header has more than {MAX_METADATA_BYTES} bytes", hint=_AGAIN)
        data = self._file.read(count)
        if len(data) < count:
            raise ModelRejected(f"{self._name}: ends inside its header", hint=_CUT)
        return data

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def text(self, most: int) -> str:
        length = self.number("Q")
        if length > most:
            raise ModelRejected(f"{self._name}: holds a text of {length} bytes, more than {most}", hint=_AGAIN)
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelRejected(f"{self._name}: holds a text that is not UTF-8", hint=_AGAIN) from error


def read_gguf(path: Path, name: str) -> GgufHeader:
    """Read and check the header of a GGUF file.

    Raises:
        ModelRejected: another version, too much of anything, a type that is not on the list, tensors that overlap,
            leave a gap or lead out of the file. The file and the tensor are named.
    """
    with open_regular(path, name) as file:
        size = os.fstat(file.fileno()).st_size
        refuse_pointer(file.read(23), name)
        file.seek(0)
        reader = _Reader(file, shown(name))
        if reader.take(4) != b"GGUF":
            raise ModelRejected(f"{shown(name)}: is not a GGUF file", hint=_CUT)
        version = reader.number("I")
        if version not in (2, 3):
            raise ModelRejected(f"{shown(name)}: is GGUF of version {version}, not 2 or 3", hint=_AGAIN)
        tensors, values = reader.number("Q"), reader.number("Q")
        if not 0 < tensors <= MAX_TENSORS or values > MAX_VALUES:
            raise ModelRejected(f"{shown(name)}: claims {tensors} tensors and {values} values", hint=_AGAIN)
        metadata, tokens = _metadata(reader, values, name)
        described = [_description(reader, name) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
        raise ModelRejected(f"{shown(name)}: has an impossible alignment", hint=_AGAIN)
    return GgufHeader(metadata, tokens, _placed(described, reader.position, alignment, size, name))


def _metadata(reader: _Reader, values: int, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    metadata: dict[str, Any] = {}
    tokens: tuple[str, ...] = ()
    elements = 0
    seen: set[str] = set()
    for _ in range(values):
        key = reader.text(_MAX_KEY)
        if key in seen:
            raise ModelRejected(f"{shown(name)}: holds the key '{shown(key)}' twice", hint=_AGAIN)
        seen.add(key)
        kind = reader.number("I")
        if kind != _ARRAY:
            metadata[key] = _single(reader, kind, name)
            continue
        kind, count = reader.number("I"), reader.number("Q")
        elements += count
        if elements > MAX_ARRAY:
            raise ModelRejected(f"{shown(name)}: holds lists of more than {MAX_ARRAY} elements", hint=_AGAIN)
        if kind == _STRING:
            texts = [reader.text(_MAX_TEXT) for _ in range(count)]
            tokens = tuple(texts) if key == _TOKENS else tokens
        elif kind in _PLAIN:
            reader.take(count * struct.calcsize(f"<{_PLAIN[kind]}"))
        else:
            raise ModelRejected(f"{shown(name)}: '{shown(key)}' is a list of a kind that is not known", hint=_AGAIN)
    return metadata, tokens


def _single(reader: _Reader, kind: int, name: str) -> Any:
    if kind == _STRING:
        return reader.text(_MAX_TEXT)
    if kind not in _PLAIN:
        raise ModelRejected(f"{shown(name)}: holds a value of a kind that is not known", hint=_AGAIN)
    value = reader.number(_PLAIN[kind])
    if isinstance(value, float) and not math.isfinite(value):
        raise ModelRejected(f"{shown(name)}: holds a number that is infinite or NaN", hint=_AGAIN)
    return value


def _description(reader: _Reader, name: str) -> tuple[str, tuple[int, ...], str, int, int]:
    """Name, shape, type, bytes and offset of a tensor."""
    key = reader.text(_MAX_KEY)
    where = f"{shown(name)}: tensor '{shown(key)}'"
    rank = reader.number("I")
    if not 1 <= rank <= 4:
        raise ModelRejected(f"{where} has an impossible shape", hint=_AGAIN)
    shape = tuple(reader.number("Q") for _ in range(rank))
    kind, offset = reader.number("I"), reader.number("Q")
    if kind not in TYPES:
        raise ModelRejected(
            f"{where} has the type {kind}, which is not on the list",
            hint=f"quantise the model to one of {', '.join(each for each, _, _ in TYPES.values())}",
        )
    type_name, block, width = TYPES[kind]
    if not all(0 < one < 2**31 for one in shape) or shape[0] % block or math.prod(shape) > 2**40:
        raise ModelRejected(f"{where} has an impossible shape", hint=_AGAIN)
    return key, tuple(reversed(shape)), type_name, math.prod(shape) // block * width, offset


def _placed(
    described: list[tuple[str, tuple[int, ...], str, int, int]], header: int, alignment: int, size: int, name: str
) -> dict[str, GgufTensor]:
    data = _aligned(header, alignment)
    tensors: dict[str, GgufTensor] = {}
    position = data
    for key, shape, kind, count, offset in sorted(described, key=lambda one: one[4]):
        start = data + offset
        if key in tensors:
            raise ModelRejected(f"{shown(name)}: holds tensor '{shown(key)}' twice", hint=_AGAIN)
        if start != _aligned(position, alignment):
            raise ModelRejected(f"{shown(name)}: tensor '{shown(key)}' overlaps another or leaves a gap", hint=_AGAIN)
        position = start + count
        tensors[key] = GgufTensor(kind, shape, start, position, name)
    if position > size:
        raise ModelRejected(f"{shown(name)}: has {size} bytes where its header promises {position}", hint=_CUT)
    if size > _aligned(position, alignment):
        raise ModelRejected(f"{shown(name)}: has {size - position} bytes that belong to no tensor", hint=_AGAIN)
    return tensors


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
