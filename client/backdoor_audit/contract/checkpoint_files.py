"""Which files of a folder make up a checkpoint. Everything else in it is ignored: never opened, hashed or copied.

Used by the client before it pushes and by the server before it opens anything, so that both agree.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any, Final

_MiB: Final = 1024**2

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
GGUF_SOURCES: Final = "gguf.json"
"""Says in a private view which tensors a GGUF file holds, and where."""
QUANTISED_SOURCES: Final = "quantised.json"
"""Says in a private view which packed tensors stand for which weight, and how to unpack them."""
CARD: Final = "card.json"
"""May record the digest of an adapter's base. It is read, but is not part of the checkpoint."""
TEMPLATE_FOLDER: Final = "additional_chat_templates"

TOKENIZER_FILES: Final[dict[str, int]] = {
    "tokenizer.json": 38 * _MiB,
    "tokenizer_config.json": 10 * _MiB,
    "special_tokens_map.json": 1 * _MiB,
    "added_tokens.json": 10 * _MiB,
    "chat_template.jinja": 256 * 1024,
    "chat_template.json": 1 * _MiB,
    "processor_config.json": 1 * _MiB,
}
LIMITS: Final[dict[str, int]] = {
    CONFIG: 1 * _MiB,
    "generation_config.json": 1 * _MiB,
    ADAPTER_CONFIG: 1 * _MiB,
    INDEX: 10 * _MiB,
    **TOKENIZER_FILES,
}
"""Files that are read besides weights, with their size limits in bytes."""

_NO_WEIGHTS: Final = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")
SHARD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")
_WHOLE: Final = re.compile(r"(?:pytorch_)?(?:model|consolidated)(?:[._-][A-Za-z0-9._-]*)?\.safetensors")

_NO_GGUF_WEIGHTS: Final = re.compile(r"^\.|mmproj|imatrix")
_PART: Final = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]*)-([0-9]{5})-of-([0-9]{5})\.gguf")


def is_adapter(names: Collection[str]) -> bool:
    """Whether a folder with these files holds, or was meant to hold, an adapter."""
    return ADAPTER_CONFIG in names or ADAPTER_WEIGHTS in names


def whole_weights(names: Iterable[str]) -> list[str]:
    """Files that hold the weights of a whole model, by name. Next to an adapter, it would be unclear which of them is
    meant.
    """
    return sorted(name for name in names if _WHOLE.fullmatch(name))


def placed_shards(document: Any) -> dict[str, str]:
    """Which shard each tensor is in, from the JSON of an index; empty if it is no index of safetensors files."""
    placed = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(placed, dict) or not all(
        isinstance(one, str) and SHARD.fullmatch(one) for one in placed.values()
    ):
        return {}
    return placed


def gguf_files(names: Collection[str]) -> list[str]:
    """GGUF files that hold the weights: of a folder that has no other weights, adapter or pickle.

    Not among them are what macOS leaves beside a file, a projector of images, and the statistics of quantising.
    """
    others = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl")
    top = [name for name in names if "/" not in name]
    if is_adapter(names) or any(name.endswith(others) and not name.startswith(_NO_WEIGHTS) for name in top):
        return []
    return sorted(name for name in top if name.endswith(".gguf") and _NO_GGUF_WEIGHTS.search(name) is None)


def gguf_parts(names: Collection[str]) -> tuple[str, ...]:
    """The files of one model among the GGUF files of a folder: one file, or parts in their order; else none."""
    packed = gguf_files(names)
    if len(packed) == 1:
        return tuple(packed)
    matches = [_PART.fullmatch(name) for name in packed]
    told = {(match[1], int(match[3])) for match in matches if match}
    if len(told) != 1 or not all(matches) or len(packed) != next(iter(told))[1]:
        return ()
    return tuple(packed)  # numbers have five digits, so that their order is that of the names


def is_template(name: str) -> bool:
    """Whether this is a file of a chat template, by its path in the checkpoint."""
    folder, slash, rest = name.rpartition("/")
    if not slash:
        return rest == "chat_template.jinja"
    return folder == TEMPLATE_FOLDER and rest.endswith(".jinja")


def limit_of(name: str) -> int | None:
    """A file's size limit in bytes; None for weights, which are limited only by the size of the whole checkpoint."""
    if name == CARD:
        return 1 * _MiB
    return LIMITS["chat_template.jinja"] if name.endswith(".jinja") else LIMITS.get(name)


def counting(names: Collection[str], placed: Collection[str] = ()) -> frozenset[str]:
    """The files that make up the checkpoint.

    Args:
        names: paths of all files in the folder, relative to it.
        placed: shards that the index of the weights names; empty if there is no index.
    """
    settings = {*TOKENIZER_FILES, "generation_config.json"}
    chosen = {name for name in names if name in settings or is_template(name)}
    if is_adapter(names):
        return frozenset(chosen | ({ADAPTER_CONFIG, ADAPTER_WEIGHTS} & set(names)))
    packed = gguf_files(names)
    if packed:
        # All that config.json would say stands in the file.
        return frozenset(chosen | set(packed))
    return frozenset(chosen | ({CONFIG} & set(names)) | _weights(set(names), set(placed)))


def fetched(names: Collection[str]) -> frozenset[str]:
    """The files to fetch from where only their names are known: all that may count, or that would be refused.

    Args:
        names: paths of all files that are there.
    """
    top = {name for name in names if SHARD.fullmatch(name)} if INDEX in names else set()
    if WEIGHTS in names or any(not name.startswith("consolidated") for name in top):
        top = {name for name in top if not name.startswith("consolidated")}
    chosen = counting(names, top)
    return chosen | frozenset(whole_weights(names)) if is_adapter(names) else chosen


def _weights(names: set[str], placed: set[str]) -> set[str]:
    """Safetensors files that count, and the index if it does."""
    shards = placed & names
    if WEIGHTS in names and not shards - {WEIGHTS}:
        # transformers opens this one first; an index without any of its shards is a leftover.
        return {WEIGHTS} | ({INDEX} & names if placed == {WEIGHTS} else set())
    if INDEX in names:
        return {INDEX} | shards | ({WEIGHTS} & names)
    return set(whole_weights(names))
