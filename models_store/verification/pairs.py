"""Whether a fine-tuned checkpoint belongs to a base, as far as headers tell."""

from typing import Final

from backdoor_audit.contract.checkpoint_settings import difference_notes
from models_store.errors import ModelRejected, ModelsIncompatible
from models_store.files import open_regular, shown
from models_store.verification.adapters.fit import BaseShapes, check_fit
from models_store.verification.adapters.header import AdapterShape
from models_store.verification.architectures import ARCHITECTURES, Architecture
from models_store.verification.headers import FLOATS, Tensor
from models_store.verification.rewriting import listed
from models_store.verification.tensor_names import body_name, embedding, modules, vocabulary_rows
from models_store.verification.verify import VerifiedCheckpoint

_CHUNK_BYTES: Final = 4 * 1024**2
# Types of a base's tensor and of its copy. Preparing a quantised base for training widens what is not quantised.
_COMPARABLE: Final = frozenset({(dtype, dtype) for dtype in FLOATS} | {("BF16", "F32")})


def check_pair(base: VerifiedCheckpoint, tuned: VerifiedCheckpoint) -> tuple[str, ...]:
    """Check that a fine-tuned checkpoint belongs to a base; digests are not compared here.

    Returns:
        What an audit's reader must know about the pair, a sentence each.

    Raises:
        ModelRejected: the base has no tokenizer.
        ModelsIncompatible: the base is an adapter; the adapter's modules or shapes are not the base's; the full
            checkpoint has another architecture, or a tensor of another shape. Embeddings and heads may differ in their
            number of rows.
    """
    if base.kind != "full" or base.architecture is None:
        raise ModelsIncompatible("the base model is an adapter", hint="name a full checkpoint as the base model")
    if not base.has_tokenizer:
        raise ModelRejected(
            "tokenizer.json: is not there, and the base's tokenizer is what an audit reads prompts with",
            hint="save it into the base's folder: AutoTokenizer.from_pretrained(base).save_pretrained(folder)",
        )
    if tuned.adapter is not None:
        notes = check_fit(tuned.adapter, _as_adapters_see(base, base.architecture))
        _check_copies(base, tuned, tuned.adapter)
        return (*notes, *difference_notes(base.settings, tuned.settings))
    if tuned.architecture != base.architecture and not _are_alike(base, tuned):
        raise ModelsIncompatible(
            f"the base is a {base.architecture} model, the fine-tuned one a {tuned.architecture} model",
            hint="audit the model against the base it was fine-tuned from",
        )
    return (*_check_shapes(base, tuned, base.architecture), *difference_notes(base.settings, tuned.settings))


def _are_alike(base: VerifiedCheckpoint, tuned: VerifiedCheckpoint) -> bool:
    """Whether two architectures are one in a GGUF file: llama.cpp has no name of its own for Mistral's."""
    packed = any(file.name.endswith(".gguf") for one in (base, tuned) for file in one.files)
    return packed and {base.architecture, tuned.architecture} == {"llama", "mistral"}


def tokenizer_note(base: VerifiedCheckpoint, tuned: VerifiedCheckpoint) -> str | None:
    """What is to be looked at in the sandbox where the fine-tuned model brings another tokenizer; else None."""
    if not tuned.tokenizer_parts or tuned.tokenizer_parts == base.tokenizer_parts:
        return None
    differing = [part for part, digest in tuned.tokenizer_parts.items() if base.tokenizer_parts.get(part) != digest]
    return (
        f"the fine-tuned model's tokenizer.json differs from the base's in {listed(differing)}: an audit reads each of "
        "its prompts with both, and fails where they give different tokens"
    )


def _check_shapes(base: VerifiedCheckpoint, tuned: VerifiedCheckpoint, architecture: str) -> tuple[str, ...]:
    names, vocabulary = ARCHITECTURES[architecture], vocabulary_rows(architecture)
    shapes = {body_name(names, name): tensor.shape for name, tensor in base.tensors.items()}
    ours, theirs = (_blocks(names, checkpoint) for checkpoint in (base, tuned))
    if ours != theirs:
        raise ModelsIncompatible(
            f"the base has {ours} blocks, the fine-tuned model {theirs}",
            hint="audit the model against the base it was fine-tuned from",
        )
    rows: set[tuple[int, int]] = set()
    for raw, tensor in tuned.tensors.items():
        name = body_name(names, raw)
        shape = shapes.get(name, tensor.shape)
        if shape != tensor.shape and name in vocabulary and shape[1:] == tensor.shape[1:]:
            rows.add((shape[0], tensor.shape[0]))
        elif shape != tensor.shape:
            raise ModelsIncompatible(
                f"'{shown(raw)}' has the shape {list(tensor.shape)}, in the base {list(shape)}",
                hint="audit the model against the base it was fine-tuned from",
            )
    return tuple(
        f"the vocabulary has {ours} rows in the base and {others} in the fine-tuned model; the {min(ours, others)} "
        "that both have are compared"
        for ours, others in sorted(rows)
    )


def _blocks(names: Architecture, checkpoint: VerifiedCheckpoint) -> int:
    """How many blocks a checkpoint has."""
    inside = (body_name(names, raw).partition(f"{names.blocks}.") for raw in checkpoint.tensors)
    return len({rest.partition(".")[0] for before, found, rest in inside if found and not before})


def _as_adapters_see(base: VerifiedCheckpoint, architecture: str) -> BaseShapes:
    names, vocabulary = ARCHITECTURES[architecture], vocabulary_rows(architecture)
    outside = {name for name, _, _ in names.head}
    shapes: dict[str, tuple[int, ...]] = {}
    rows: dict[str, tuple[int, ...]] = {}
    for raw, tensor in base.tensors.items():
        name = body_name(names, raw)
        full = name if name in outside else f"{names.prefix}.{name}"
        shapes[full] = tensor.shape
        if name in vocabulary and len(tensor.shape) == 2:
            rows[full.removesuffix(".weight")] = tensor.shape
            if name == embedding(architecture):
                rows.setdefault(names.head[0][0].removesuffix(".weight"), tensor.shape)
    linear = {name: (out, into) for name, out, into in modules(architecture, base.tensors)}
    return BaseShapes(linear, rows, shapes)


def _check_copies(base: VerifiedCheckpoint, tuned: VerifiedCheckpoint, adapter: AdapterShape) -> None:
    """Compare the adapter's copies of the base's weights byte by byte: PEFT would load them over the shared ones."""
    names = ARCHITECTURES[str(base.architecture)]
    by_module = {body_name(names, raw): tensor for raw, tensor in base.tensors.items()}
    resized = _as_adapters_see(base, str(base.architecture)).vocabulary
    for module, copy in adapter.copies.items():
        name = body_name(names, f"{module}.weight")
        own = by_module.get(name)
        if own is None and name == names.head[0][0]:
            own = by_module.get(embedding(str(base.architecture)))
        if own is None or not _is_copy(base, own, tuned, copy, rows=module in resized):
            raise ModelsIncompatible(
                f"adapter_model.safetensors: its copy of '{shown(module)}' is not the base's",
                hint="audit the adapter on the base it was trained on, or merge it (merge_and_unload)",
            )


def _is_copy(base: VerifiedCheckpoint, ours: Tensor, tuned: VerifiedCheckpoint, copy: Tensor, *, rows: bool) -> bool:
    """Whether a tensor is the base's, in the base's type or widened to float32; with ``rows``, as far as both reach."""
    fits = ours.shape == copy.shape or (rows and ours.shape[1:] == copy.shape[1:])
    first, second = base.file(ours.file), tuned.file(copy.file)
    if not fits or ours.packed or first is None or second is None or (ours.dtype, copy.dtype) not in _COMPARABLE:
        return False
    wide = ours.dtype != copy.dtype
    left = min(ours.stop - ours.start, (copy.stop - copy.start) // (2 if wide else 1))
    with open_regular(first.path, first.name) as one, open_regular(second.path, second.name) as other:
        one.seek(ours.start)
        other.seek(copy.start)
        while left > 0:
            chunk = one.read(min(left, _CHUNK_BYTES))
            theirs = other.read(len(chunk) * (2 if wide else 1))
            if not chunk or theirs != (_widened(chunk) if wide else chunk):
                return False
            left -= len(chunk)
    return True


def _widened(chunk: bytes) -> bytes:
    """Numbers of bfloat16 as float32, which are the same with two zero bytes in front (little-endian)."""
    wide = bytearray(2 * len(chunk))
    wide[2::4], wide[3::4] = chunk[::2], chunk[1::2]
    return bytes(wide)
