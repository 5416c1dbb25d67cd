"""Whether an adapter belongs to a base, as far as headers tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from backdoor_audit.contract.checkpoint_files import ADAPTER_WEIGHTS as WEIGHTS_NAME
from models_store.errors import ModelsIncompatible
from models_store.files import shown
from models_store.verification.adapters.config import CONFIG_NAME, MERGE
from models_store.verification.adapters.header import HEADS, AdapterShape
from models_store.verification.rewriting import listed

_OTHER_BASE: Final = "audit the adapter on the base it was trained on"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class BaseShapes:
    """A base, as an adapter sees it; names are those of a model with a head.

    Attributes:
        linear: linear modules: sizes of output and input. A head that is tied to the embedding is among them.
        vocabulary: modules with a row for each token: the shape of their weight, a tied head again among them.
        tensors: every tensor's shape.
    """

    linear: Mapping[str, tuple[int, int]]
    vocabulary: Mapping[str, Shape]
    tensors: Mapping[str, Shape]


def check_fit(adapter: AdapterShape, base: BaseShapes) -> tuple[str, ...]:
    """Hold an adapter against a base.

    Returns:
        What an audit's reader must know, a sentence each.

    Raises:
        ModelsIncompatible: a module or weight that the base lacks, or that is of another shape there; a targeted module
            that the adapter lacks. Embeddings and heads may differ in their number of rows where the adapter brings
            their weights.
    """
    rows = _rows(adapter, base)
    _check_linear(adapter, base, rows)
    _check_embeddings(adapter, base, rows)
    _check_trained(adapter, base)
    if not adapter.trained and rows is None:
        return ()
    notes = []
    if adapter.trained:
        brought = listed(adapter.trained_modules or adapter.trained)
        notes.append(f"the adapter brings trained weights ({brought}), which were put on a second copy of the base")
    if rows is not None:
        ours = next(iter(base.vocabulary.values()))[0]
        notes.append(
            f"the vocabulary has {ours} rows in the base and {rows} in the fine-tuned model; the {min(ours, rows)} "
            "that both have are compared"
        )
    return tuple(notes)


def _rows(adapter: AdapterShape, base: BaseShapes) -> int | None:
    """How many rows the vocabulary was resized to before the adapter was trained; None if it was not."""
    found = set()
    for module, tensor in adapter.copies.items():
        adapted = adapter.modules.get(module, adapter.embeddings.get(module, tensor.shape))
        if module in base.vocabulary and _is_row_apart(tensor.shape, base.vocabulary[module]):
            if adapted != tensor.shape:
                _refuse(f"its copy of '{shown(module)}' is not the base's, nor of the vocabulary that it adapts")
            found.add(tensor.shape[0])
    for name, tensor in adapter.trained.items():
        there = base.vocabulary.get(name.rpartition(".")[0])
        if there is not None and name.endswith(".weight") and _is_row_apart(tensor.shape, there):
            found.add(tensor.shape[0])
    if len(found) > 1:
        _refuse(f"holds vocabularies of {' and '.join(map(str, sorted(found)))} rows", MERGE)
    return next(iter(found), None)


def _is_row_apart(ours: Shape, others: Shape) -> bool:
    return ours[:1] != others[:1] and ours[1:] == others[1:]


def _check_linear(adapter: AdapterShape, base: BaseShapes, rows: int | None) -> None:
    for module, (out, into) in sorted(adapter.modules.items()):
        there = base.linear.get(module)
        if there is None:
            _refuse(f"adapts '{shown(module)}', which the base does not have")
        if rows is not None and module in base.vocabulary:
            there = (rows, there[1])
        if there != (out, into):
            _refuse(f"'{shown(module)}' maps {into} to {out}, in the base {there[1]} to {there[0]}")
    for module in base.linear:
        if module not in adapter.modules and adapter.config.targets(module):
            _refuse(f"has nothing for '{module}', which {CONFIG_NAME} targets in this base")


def _check_embeddings(adapter: AdapterShape, base: BaseShapes, rows: int | None) -> None:
    for module, (count, width) in adapter.embeddings.items():
        there = base.vocabulary.get(module)
        if there is None or (rows or there[0], there[1]) != (count, width):
            _refuse(f"adapts '{shown(module)}' as an embedding of {count} rows, which the base does not have")
    for head in HEADS & base.vocabulary.keys():
        tied = adapter.config.tied and f"{head}.weight" not in base.tensors
        if adapter.embeddings and tied and head not in adapter.modules:
            _refuse(f"adapts the embedding and not the head '{head}', although {CONFIG_NAME} ties them", MERGE)
    for module, (shape, highest) in adapter.token_rows.items():
        there = base.vocabulary.get(module)
        if there is None or there[1:] != shape[1:] or highest >= (rows or there[0]):
            _refuse(f"trains rows of '{shown(module)}' that the base does not have")


def _check_trained(adapter: AdapterShape, base: BaseShapes) -> None:
    for name, tensor in sorted(adapter.trained.items()):
        module, _, part = name.rpartition(".")
        there = base.vocabulary.get(module) if part == "weight" else None
        shape = base.tensors.get(name) if there is None else there
        if shape is None:
            _refuse(f"brings '{shown(name)}', which the base does not have")
        if ".experts." in name:
            # transformers keeps the experts of a block in one tensor, so that PEFT has no module of this name.
            _refuse(f"brings trained experts ('{shown(name)}')", MERGE)
        if tensor.shape != shape and not (there is not None and _is_row_apart(tensor.shape, there)):
            _refuse(f"'{shown(name)}' has the shape {list(tensor.shape)}, in the base {list(shape)}")
    heads = {f"{module}.weight" for module in base.vocabulary}
    for name in sorted(base.tensors.keys() | heads):
        whole = adapter.config.trained_module(name.rpartition(".")[0])
        if whole is not None and name not in adapter.trained:
            _refuse(f"has nothing for '{name}', which {CONFIG_NAME} names in 'modules_to_save'")


def _refuse(what: str, hint: str = _OTHER_BASE) -> NoReturn:
    raise ModelsIncompatible(f"{WEIGHTS_NAME}: {what}", hint=hint)
