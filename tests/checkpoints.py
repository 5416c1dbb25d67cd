"""Checkpoint folders in tests: uploaded as a client uploads them, and checked as a pair."""

from pathlib import Path

from models_store.checkpoint import Checkpoint
from models_store.store import ModelsStore
from models_store.verification.pairs import check_pair
from models_store.verification.verify import verify_checkpoint


def upload(store: ModelsStore, name: str, folder: Path) -> Checkpoint:
    """Upload what counts of a checkpoint, and its card where it has one, and commit it."""
    files = {file.name: file.path for file in verify_checkpoint(folder).files}
    if (folder / "card.json").exists():
        files["card.json"] = folder / "card.json"
    for path, source in files.items():
        with store.uploads.receiving(name, path, offset=0, total=None) as receiving:
            receiving.write(source.read_bytes())
            receiving.finish()
    return store.commit(name)


def check_folders(base: Path, tuned: Path) -> None:
    """Check a pair by its headers."""
    check_pair(verify_checkpoint(base), verify_checkpoint(tuned))
