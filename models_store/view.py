"""The private view of a checkpoint: the folder that transformers and PEFT open in place of a stranger's.

It holds links to the files that count and JSON that we wrote, and nothing else, so there is nothing that a library
could fall back to. The sandbox may read what is in it, and no other file of the checkpoint (decision 0121).

A new weight format hooks in at three places: its files are chosen in ``contract/checkpoint_files.py``, its header is
checked in ``verification/verify.py`` (a branch of ``_Examiner.examine`` that ends in a ``VerifiedCheckpoint``, with the
JSON that the view needs in ``documents``), and what loads it in the sandbox finds it here under its own name.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models_store.errors import translated
from models_store.files import shown
from models_store.verification.verify import Kind, VerifiedCheckpoint

_MAX_LISTED: Final = 20


@dataclass(frozen=True)
class CheckpointView:
    """A view that was written.

    Attributes:
        folder: what transformers and PEFT open.
        root: the links in it stay inside this folder.
        kind: a full model, or a LoRA adapter.
        ignored: what of the checkpoint is not in it.
        rewritten: what is different in it, a sentence each.
        warnings: what an audit's reader must know, a sentence each.
    """

    folder: Path
    root: Path
    kind: Kind
    ignored: tuple[str, ...]
    rewritten: tuple[str, ...]
    warnings: tuple[str, ...]


def write_view(checkpoint: VerifiedCheckpoint, folder: Path) -> CheckpointView:
    """Write the view of a checkpoint.

    Args:
        checkpoint: what was verified just before.
        folder: made here; nobody else may write to it.

    Raises:
        NoSpace, StoreUnavailable: the folder cannot be written.
    """
    with translated("writing the view of a checkpoint"):
        folder.mkdir(parents=True)
        for file in checkpoint.files:
            target = folder / file.name
            target.parent.mkdir(exist_ok=True)
            if file.name not in checkpoint.documents:
                target.symlink_to(file.path)
        for name, document in checkpoint.documents.items():
            (folder / name).write_text(json.dumps(document, indent=1), encoding="utf-8")
    return CheckpointView(
        folder=folder,
        root=checkpoint.root,
        kind=checkpoint.kind,
        ignored=checkpoint.ignored,
        rewritten=checkpoint.rewritten,
        warnings=checkpoint.warnings,
    )


def view_notes(name: str, view: CheckpointView) -> tuple[str, ...]:
    """What a report must say about a view, a sentence each; ``name`` says which model it is of."""
    notes = [f"{name}: {warning}" for warning in view.warnings]
    if view.rewritten:
        notes.append(f"{name}: read with changes that do not touch the model ({'; '.join(view.rewritten)})")
    if view.ignored:
        more = len(view.ignored) - _MAX_LISTED
        names = ", ".join(shown(ignored) for ignored in view.ignored[:_MAX_LISTED])
        notes.append(
            f"{name}: these files are no part of the model and were not opened: {names}"
            + (f" and {more} more" if more > 0 else "")
        )
    return tuple(notes)
