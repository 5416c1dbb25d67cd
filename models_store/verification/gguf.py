"""GGUF headers, checked without reading a weight, and which transformers model they describe.

The format (versions 2 and 3, little-endian; ggml's docs/gguf.md): a magic, counts, metadata of typed values,
descriptions of the tensors, then their bytes, each aligned.
"""

import math
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from models_store.errors import ModelRejected
from models_store.files import MiB, open_regular, shown
from models_store.verification.headers import MAX_TENSORS, Tensor

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
    """

    type: str
    shape: tuple[int, ...]
    start: int
    stop: int


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
        tensors[key] = GgufTensor(kind, shape, start, position)
    if position > size:
        raise ModelRejected(f"{shown(name)}: has {size} bytes where its header promises {position}", hint=_CUT)
    if size > _aligned(position, alignment):
        raise ModelRejected(f"{shown(name)}: has {size - position} bytes that belong to no tensor", hint=_AGAIN)
    return tensors


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


@dataclass(frozen=True)
class GgufModel:
    """What transformers makes of a GGUF file.

    Attributes:
        config: config.json.
        tokenizer_config: its special tokens and its chat template.
        tensors: by transformers' names.
        sources: for each of them where its bytes lie, for the sandbox.
        tokens: the vocabulary, by number.
        form: how its weights are stored, in words.
    """

    config: dict[str, Any]
    tokenizer_config: dict[str, Any]
    tensors: dict[str, Tensor]
    sources: dict[str, dict[str, Any]]
    tokens: tuple[str, ...]
    form: str


_TOP: Final = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BLOCK: Final = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_IN_BLOCK: Final = re.compile(r"blk\.(0|[1-9][0-9]{0,4})\.([a-z_]+)\.(weight|bias)")

GGUF_ARCHITECTURES: Final[dict[str, str]] = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""Architectures of GGUF files that are read, and their class."""
# llama.cpp stores the rows of these in another order, for its way of rotating them.
_PERMUTED: Final = frozenset({"llama"})
_INTEGERS: Final = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
}
_NUMBERS: Final = {"attention.layer_norm_rms_epsilon": "rms_norm_eps", "rope.freq_base": "rope_theta"}
_CHECKED: Final = frozenset({"vocab_size", "rope.dimension_count", "attention.value_length", "rope.scaling.type"})
_SPECIAL: Final = {
    "bos_token_id": "bos_token",
    "eos_token_id": "eos_token",
    "unknown_token_id": "unk_token",
    "padding_token_id": "pad_token",
}
_CONVERT: Final = (
    'python -c "import sys; from transformers import AutoModelForCausalLM as M; '
    "m = M.from_pretrained(sys.argv[1], gguf_file=sys.argv[2]); del m.config.quantization_config; "
    'm.hf_quantizer, m.is_quantized = None, False; m.save_pretrained(sys.argv[3])"'
)


def gguf_model(header: GgufHeader, name: str) -> GgufModel:
    """What transformers makes of a checked header.

    Raises:
        ModelRejected: an architecture or a setting that is not on the list.
    """
    metadata, where = header.metadata, shown(name)
    kind = metadata.get("general.architecture")
    if not isinstance(kind, str) or kind not in GGUF_ARCHITECTURES:
        raise ModelRejected(
            f"{where}: its architecture is '{shown(str(kind))}'; of GGUF, {', '.join(GGUF_ARCHITECTURES)} are read",
            hint=f"convert it to safetensors: {_CONVERT} FOLDER {where} FOLDER-safetensors",
        )
    if metadata.get("split.count", 1) != 1:
        raise ModelRejected(f"{where}: is one part of several", hint="join them: llama-gguf-split --merge")
    config = _config(metadata, kind, header, where)
    tensors, sources = _tensors(header, kind, config, name)
    types = sorted({tensor.type for tensor in header.tensors.values()})
    return GgufModel(config, _tokenizer_config(header), tensors, sources, header.tokens, f"GGUF ({', '.join(types)})")


def _config(metadata: Mapping[str, Any], kind: str, header: GgufHeader, where: str) -> dict[str, Any]:
    own = {key.removeprefix(f"{kind}."): value for key, value in metadata.items() if key.startswith(f"{kind}.")}
    config: dict[str, Any] = {"model_type": kind, "architectures": [GGUF_ARCHITECTURES[kind]]}
    for key, value in own.items():
        if key in _INTEGERS and type(value) is int:
            config[_INTEGERS[key]] = value
        elif key in _NUMBERS and isinstance(value, float):
            # The file holds four bytes of it: 1e-05 is written as the shortest number with these four.
            config[_NUMBERS[key]] = float(f"{value:.7g}")
        elif key not in _CHECKED:
            raise ModelRejected(
                f"{where}: the key '{shown(kind)}.{shown(key)}' is not on the list",
                hint=f"convert it to safetensors: {_CONVERT} FOLDER {where} FOLDER-safetensors",
            )
    missing = [key for key, name in _INTEGERS.items() if name not in config and key != "attention.key_length"]
    if missing == ["attention.head_count_kv"]:
        config["num_key_value_heads"] = config["num_attention_heads"]
    elif missing:
        raise ModelRejected(f"{where}: lacks '{kind}.{missing[0]}'", hint=_AGAIN)
    if own.get("rope.scaling.type", "none") != "none" or "rope_freqs.weight" in header.tensors:
        raise ModelRejected(
            f"{where}: scales its rotary angles, which is not read from GGUF",
            hint=f"convert it to safetensors: {_CONVERT} FOLDER {where} FOLDER-safetensors",
        )
    heads = config["num_attention_heads"]
    head = config.setdefault("head_dim", config["hidden_size"] // max(heads, 1))
    if kind == "qwen2" and config.pop("head_dim") * heads != config["hidden_size"]:
        raise ModelRejected(f"{where}: '{kind}.attention.key_length' is not the width over the heads", hint=_AGAIN)
    if any(own.get(key, head) != head for key in ("rope.dimension_count", "attention.value_length")):
        raise ModelRejected(f"{where}: rotates a part of each head, which is not read from GGUF", hint=_AGAIN)
    embedding = header.tensors.get("token_embd.weight")
    config["vocab_size"] = 0 if embedding is None else embedding.shape[0]
    config["tie_word_embeddings"] = "output.weight" not in header.tensors
    for key in ("bos_token_id", "eos_token_id"):
        value = metadata.get(f"tokenizer.ggml.{key}")
        if type(value) is int and 0 <= value < config["vocab_size"]:
            config[key] = value
    return config


def _tokenizer_config(header: GgufHeader) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, name in _SPECIAL.items():
        number = header.metadata.get(f"tokenizer.ggml.{key}")
        if type(number) is int and 0 <= number < len(header.tokens):
            found[name] = header.tokens[number]
    template = header.metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        found["chat_template"] = template
    return found


def _tensors(
    header: GgufHeader, kind: str, config: Mapping[str, Any], name: str
) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors: dict[str, Tensor] = {}
    sources: dict[str, dict[str, Any]] = {}
    for key, tensor in header.tensors.items():
        match = _IN_BLOCK.fullmatch(key)
        part = match[2] if match else ""
        # A name that no table has stays as it is, and is refused as a tensor that the architecture lacks.
        own = f"model.layers.{match[1]}.{_BLOCK.get(part, part)}.{match[3]}" if match else _TOP.get(key, key)
        rows = heads.get(part, 0) if kind in _PERMUTED else 0
        if rows and (tensor.shape[0] % (2 * rows)):
            raise ModelRejected(f"{shown(name)}: tensor '{shown(key)}' has an impossible shape", hint=_AGAIN)
        # Types of blocks are floats once they are dequantised.
        tensors[own] = Tensor(tensor.type if tensor.type in ("F16", "BF16") else "F32", tensor.shape, tensor.start,
                              tensor.stop, name, packed=True)  # fmt: skip
        sources[own] = {"type": tensor.type, "shape": list(tensor.shape), "start": tensor.start, "stop": tensor.stop,
                        "permuted_heads": rows}  # fmt: skip
    return tensors, sources
