"""The header of a full checkpoint against its configuration: which tensors must be there, and of which shapes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeVar

from backdoor_audit.contract.checkpoint_files import INDEX
from models_store.errors import ModelRejected
from models_store.files import shown
from models_store.verification.architectures import ARCHITECTURES, TEXT_PARTS, Architecture
from models_store.verification.headers import FLOATS, OLD_BUFFERS, Tensor

# Parts that a block has many of: one norm for each head, and experts. The number does not change the shape.
_PART_NUMBER: Final = re.compile(r"\.(norms|experts)\.([0-9]{1,6})\.")
# Where a model with several parts keeps its text part, and what belongs to the others.
_TEXT: Final = re.compile(r"(?:model\.)?language_model\.(?:model\.)?")
_OTHER_PARTS: Final = tuple(
    f"{before}{part}."
    for part in ("vision_tower", "multi_modal_projector", "visual", "mtp")
    for before in ("", "model.")
)
_Value = TypeVar("_Value")
_BLOCK_NUMBER: Final = re.compile(r"([0-9]{1,6})\.(.+)")


def text_name(name: str) -> str:
    """A name of the text part of a model with several parts, as a text model has it; other names as they are."""
    match = _TEXT.match(name)
    if match is None:
        return name
    rest = name[match.end() :]
    return rest if rest.partition(".")[0] == "lm_head" else f"model.{rest}"


def text_part(model_type: str, tensors: Mapping[str, _Value]) -> Mapping[str, _Value]:
    """The tensors of the text part of a model that has others, by the names that a text model has; else all of them.

    The values may be anything that is kept by the tensors' names.
    """
    if model_type not in TEXT_PARTS or not any(_TEXT.match(name) for name in tensors):
        return tensors
    return {text_name(raw): tensor for raw, tensor in tensors.items() if not raw.startswith(_OTHER_PARTS)}


def check_weights(
    model_type: str,
    tensors: Mapping[str, Tensor],
    dims: Mapping[str, int],
    flags: Mapping[str, bool],
    kinds: Sequence[str] = (),
    placed: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Hold a full checkpoint's header against what its configuration promises.

    Args:
        model_type: a key of ``ARCHITECTURES``.
        tensors: the header.
        dims: sizes by the names that ``ARCHITECTURES`` uses, and ``layers``.
        flags: configuration keys that are true or false, and ``tied``.
        kinds: the kind of every block, where blocks differ.
        placed: which shard each tensor should be in, where there is an index.

    Raises:
        ModelRejected: a tensor is missing, foreign, of another shape, or not a float. The tensor is named.
    """
    names = ARCHITECTURES[model_type]
    allowed = _allowed(names, dims, flags)
    seen: set[str] = set()
    for raw, tensor in tensors.items():
        name = body_name(names, raw)
        if OLD_BUFFERS.fullmatch(name):
            continue
        key, block = _key(names, name)
        shape, need = allowed.get(key, (None, ""))
        if shape is None or name in seen or not _may_be_there(name, block, need, dims, kinds):
            raise ModelRejected(
                f"weights: '{shown(raw)}' is not a tensor of a {model_type} model with {dims['layers']} layers",
                hint="save the model with transformers' save_pretrained; config.json and weights must belong together",
            )
        if tensor.shape != shape:
            raise ModelRejected(
                f"weights: '{shown(raw)}' has the shape {list(tensor.shape)}, config.json asks for {list(shape)}",
                hint="config.json and weights must belong together",
            )
        if tensor.dtype not in FLOATS:
            raise ModelRejected(
                f"weights: '{shown(raw)}' has the type {tensor.dtype}",
                hint="save the weights as bfloat16, float16 or float32",
            )
        seen.add(name)
    present = seen | {_PART_NUMBER.sub(_any_norm, name) for name in seen}
    for name in _needed(names, dims, flags, kinds):
        if name not in present and not (name == "lm_head.weight" and "embed_out.weight" in present):
            raw, shard = next(
                ((one, placed[one]) for one in (name, f"{names.prefix}.{name}") if one in placed), ("", "")
            )
            if shard:
                raise ModelRejected(
                    f"{shown(shard)}: lacks '{shown(raw)}', which {INDEX} places there", hint="copy the shard again"
                )
            raise ModelRejected(
                f"weights: '{name}' is not there", hint="copy the missing shard, or save the model again"
            )


def _any_norm(match: re.Match[str]) -> str:
    return ".norms.*." if match[1] == "norms" else match[0]


def body_name(names: Architecture, raw: str) -> str:
    """A tensor's name without the body's prefix; heads keep theirs."""
    return raw.removeprefix(f"{names.prefix}.")


def _key(names: Architecture, name: str) -> tuple[str, int | None]:
    """The name with the block's number replaced by ``*``, and that number."""
    rest = name.removeprefix(f"{names.blocks}.")
    match = _BLOCK_NUMBER.fullmatch(rest) if rest != name else None
    if match is None or str(int(match[1])) != match[1]:
        return name, None
    return "*." + _PART_NUMBER.sub(r".\1.*.", match[2]), int(match[1])


def _allowed(
    names: Architecture, dims: Mapping[str, int], flags: Mapping[str, bool]
) -> dict[str, tuple[tuple[int, ...], str]]:
    """The shape and the need of every tensor that may be there, blocks and parts as ``*``."""
    rows = [(name, shape, need) for name, shape, need in (*names.body, *names.head)]
    rows += [(f"*.{name}", shape, need) for name, shape, need in names.block]
    return {
        name: (tuple(dims[size] for size in shape), need)
        for name, shape, need in rows
        if _wanted(need, flags) is not False
    }


def _may_be_there(name: str, block: int | None, need: str, dims: Mapping[str, int], kinds: Sequence[str]) -> bool:
    """Whether the model has a block, and in it a part, of this number and kind."""
    if block is None:
        return True
    part = _PART_NUMBER.search(name)
    if part is not None and part[1] == "experts" and (int(part[2]) >= dims["experts"] or part[2] != str(int(part[2]))):
        return False
    return block < dims["layers"] and _is_of_kind(need, block, kinds)


def _is_of_kind(need: str, block: int, kinds: Sequence[str]) -> bool:
    return not need.startswith("@") or kinds[block] == need[1:].partition(" ")[0]


def _needed(
    names: Architecture, dims: Mapping[str, int], flags: Mapping[str, bool], kinds: Sequence[str]
) -> Iterator[str]:
    """Every tensor that must be there, blocks and experts numbered; norms of heads as ``*``."""
    for name, _, need in (*names.body, *names.head):
        if _wanted(need, flags):
            yield name
    for name, _, need in names.block:
        if not _wanted(need, flags):
            continue
        numbered = [name]
        if ".experts.*." in name:
            numbered = [name.replace(".experts.*.", f".experts.{part}.") for part in range(dims["experts"])]
        for block in range(dims["layers"]):
            if _is_of_kind(need, block, kinds):
                yield from (f"{names.blocks}.{block}.{each}" for each in numbered)


def _wanted(need: str, flags: Mapping[str, bool]) -> bool | None:
    """True: must be there; False: must not; None: may be."""
    if need.startswith("@"):
        need = need.partition(" ")[2] or "always"
    if need == "always":
        return True
    if need == "older_head":
        return None
    if need == "untied":
        return None if flags["tied"] else True
    return not flags.get(need[1:], False) if need.startswith("!") else flags.get(need, False)


def is_transposed(model_type: str, raw: str) -> bool:
    """Whether a module's weight is stored as ``[in, out]``, as GPT-2's are in its blocks."""
    names = ARCHITECTURES[model_type]
    return names.transposed and body_name(names, raw).startswith(f"{names.blocks}.")


def vocabulary_rows(model_type: str) -> frozenset[str]:
    """Tensors with a row for each token of the vocabulary, by their names without the body's prefix."""
    names = ARCHITECTURES[model_type]
    return frozenset(name for name, shape, _ in (*names.body, *names.head) if shape[0] == "vocab")


def embedding(model_type: str) -> str:
    """The input embedding, by its name without the body's prefix; an output head that is tied to it has its shape."""
    names = ARCHITECTURES[model_type]
    return next(name for name, shape, _ in names.body if shape[0] == "vocab")


def modules(model_type: str, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, int, int]]:
    """The linear modules of a full checkpoint, as a model with a head names them.

    Yields:
        Full module name, size of the output and size of the input. Embeddings are not among them; a head that is tied
        to the embedding is.
    """
    names = ARCHITECTURES[model_type]
    outside = {name for name, _, _ in names.head}
    embeddings = {name for name, _, _ in names.body}
    tied: tuple[int, ...] | None = None
    for raw, tensor in tensors.items():
        name = body_name(names, raw)
        if name == embedding(model_type):
            tied = tensor.shape
        if not name.endswith(".weight") or len(tensor.shape) != 2 or name in embeddings:
            continue
        first, second = tensor.shape
        out, into = (second, first) if names.transposed and name not in outside else (first, second)
        full = name if name in outside else f"{names.prefix}.{name}"
        yield full.removesuffix(".weight"), out, into
    head = names.head[0][0]
    if tied is not None and head not in tensors:
        yield head.removesuffix(".weight"), tied[0], tied[1]
