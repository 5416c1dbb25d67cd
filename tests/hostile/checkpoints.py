"""Tiny valid checkpoints, and the ways to make them hostile. Nothing here imports torch."""

import json
import os
import socket
import struct
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.tiny import HIDDEN, VOCAB, llama_config, llama_weights, lora_config, lora_weights, tokenizer_json, write_json

Change = Callable[[Path], None]

PICKLE: Final = b"cos\nsystem\n(S'touch /tmp/owned-by-a-checkpoint'\ntR."
WEIGHTS: Final = "model.safetensors"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
INDEX: Final = "model.safetensors.index.json"
SHARDS: Final = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def write_full(folder: Path) -> Path:
    """Write a valid full checkpoint."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", llama_config())
    write_json(folder / "generation_config.json", {"eos_token_id": 1})
    write_json(folder / "tokenizer.json", tokenizer_json())
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"})
    save_file(llama_weights(), folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def write_lora(folder: Path) -> Path:
    """Write a valid adapter for it."""
    folder.mkdir(parents=True)
    write_json(folder / "adapter_config.json", lora_config())
    weights = lora_weights()
    weights |= {name: np.full_like(value, 0.1) for name, value in weights.items() if "lora_B" in name}
    save_file(weights, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    return folder


def write_trained(folder: Path) -> Path:
    """Write a valid adapter with trained weights of its own: an embedding that was resized, a norm, and factors."""
    write_lora(folder)
    path = folder / ADAPTER_WEIGHTS
    rows = np.full((VOCAB + 3, HIDDEN), 0.1, np.float32)
    trained = {"lm_head.weight": rows, "model.embed_tokens.weight": rows, "model.norm.weight": rows[0]}
    weights = {f"base_model.model.{name}": value for name, value in trained.items()}
    save_file(load_file(path) | weights, path)
    write_json(folder / "adapter_config.json", lora_config(modules_to_save=["model.norm"], bias="lora_only"))
    return folder


# Headers


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def put_header(path: Path, header: Any, data: bytes, *, claimed: int | None = None) -> None:
    """Write a safetensors file; ``header`` is JSON's text or a value, ``claimed`` the length that is written down."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if claimed is None else claimed) + text + data)


def in_header(change: Callable[[dict[str, Any]], Any], file: str = WEIGHTS) -> Change:
    def apply(folder: Path) -> None:
        header, data = header_of(folder / file)
        changed = change(header)
        put_header(folder / file, header if changed is None else changed, data)

    return apply


def of_tensor(name: str, file: str = WEIGHTS, **fields: Any) -> Change:
    return in_header(lambda header: header[name].update(fields), file)


def claiming(length: int, text: bytes = b"{}", file: str = WEIGHTS) -> Change:
    return lambda folder: put_header(folder / file, text, b"", claimed=length)


# JSON files


def in_json(file: str, *remove: str, **keys: Any) -> Change:
    def apply(folder: Path) -> None:
        path = folder / file
        document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for key in remove:
            document.pop(key)
        write_json(path, document | keys)

    return apply


def in_config(*remove: str, **keys: Any) -> Change:
    return in_json("config.json", *remove, **keys)


def in_adapter(*remove: str, **keys: Any) -> Change:
    return in_json("adapter_config.json", *remove, **keys)


def holding(file: str, content: bytes | str) -> Change:
    def apply(folder: Path) -> None:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)

    return apply


def linked(file: str, target: str) -> Change:
    def apply(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        (folder / file).symlink_to(target)

    return apply


def renamed(file: str, to: str) -> Change:
    return lambda folder: (folder / file).rename(folder / to) and None


def with_weights(change: Callable[[dict[str, np.ndarray]], Any], file: str = WEIGHTS) -> Change:
    def apply(folder: Path) -> None:
        weights = llama_weights() if file == WEIGHTS else lora_weights()
        change(weights)
        save_file(weights, folder / file)

    return apply


def sharded(places: dict[str, Any] | None = None, then: Change | None = None) -> Change:
    """Split the weights in two shards; ``places`` changes the index, ``then`` what lies beside it."""

    def apply(folder: Path) -> None:
        weights = llama_weights()
        (folder / WEIGHTS).unlink()
        placed: dict[str, Any] = {}
        for shard, names in zip(SHARDS, (sorted(weights)[:5], sorted(weights)[5:]), strict=True):
            save_file({name: weights[name] for name in names}, folder / shard)
            placed |= dict.fromkeys(names, shard)
        write_json(folder / INDEX, {"metadata": {"total_size": 1}, "weight_map": placed | (places or {})})
        if then is not None:
            then(folder)

    return apply


def large(around: bytes, entry: bytes, count: int) -> Change:
    """A tokenizer.json with ``count`` times ``entry`` under a foreign key, numbered where ``entry`` asks for it."""

    def apply(folder: Path) -> None:
        numbers = entry.count(b"%")
        entries = (entry % ((n,) * numbers) for n in range(count)) if numbers else repeat(entry, count)
        text = (b"" if b'"%s' in around or b"." in around else b",").join(entries)
        (folder / "tokenizer.json").write_bytes(b'{"evil":' + around % text + b"}")

    return apply


def write_large_tokenizer(folder: Path) -> Path:
    """A valid checkpoint with a tokenizer as large as the largest that the architectures have: Gemma's."""
    write_full(folder)
    document = tokenizer_json()
    tokens = {f"\u2581\u8a9e{number:06d}": number for number in range(262_144)}
    merges = [["\u2581\u8a9e", f"{number:06d}"] for number in range(514_906)]
    document["model"] = {"type": "BPE", "vocab": tokens, "merges": merges}
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
    return folder


def many_templates(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    for number in range(4_000):
        (folder / "additional_chat_templates" / f"{number}.jinja").touch()


def many_headers(folder: Path) -> None:
    """Shards without a tensor, whose notes are long: one file under a thousand names."""
    (folder / WEIGHTS).unlink()
    put_header(folder / "model-0.safetensors", {"__metadata__": {"note": "x" * (9 * 2**20)}}, b"")
    for number in range(1, 1_000):
        os.link(folder / "model-0.safetensors", folder / f"model-{number}.safetensors")
    write_json(folder / INDEX, {"weight_map": {f"t{n}": f"model-{n}.safetensors" for n in range(1_000)}})


def many_targets(folder: Path) -> None:
    """All targets but one fit no module, and each could be compared with each module."""
    names = [f"base_model.model.m.{number}.q_proj.lora_{side}.weight" for number in range(9_999) for side in "AB"]
    factor = {"dtype": "F32", "shape": [2, 2]}
    header = {name: {**factor, "data_offsets": [16 * at, 16 * at + 16]} for at, name in enumerate(names)}
    put_header(folder / ADAPTER_WEIGHTS, header, bytes(16 * len(names)))
    targets = ["q_proj", *(f"t{number}" for number in range(9_998))]
    ranks = {f"r{number}": 2 for number in range(9_999)}
    write_json(folder / "adapter_config.json", lora_config(target_modules=targets, rank_pattern=ranks))


def removed(file: str) -> Change:
    return lambda folder: (folder / file).unlink()


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "chat_template.jinja")


def unix_socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "chat_template.jinja"))


def device_file(folder: Path) -> None:
    if os.geteuid() != 0:
        return fifo(folder)
    os.mknod(folder / "chat_template.jinja", 0o020666, os.makedev(1, 5))
    return None


def many_files(folder: Path) -> None:
    (folder / "many").mkdir()
    for number in range(5_001):
        (folder / "many" / str(number)).touch()


def truncated(folder: Path) -> None:
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate((folder / WEIGHTS).stat().st_size - 1)


def grown(size: int, file: str) -> Change:
    def apply(folder: Path) -> None:
        with (folder / file).open("ab") as opened:
            opened.truncate(size)

    return apply


def empty_tensors(count: int) -> bytes:
    empty = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return b"{" + b",".join(b'"t%d":%s' % (number, empty) for number in range(count)) + b"}"


def overlapping(header: dict[str, Any]) -> None:
    header["model.norm.weight"]["data_offsets"] = header["model.layers.0.input_layernorm.weight"]["data_offsets"]
