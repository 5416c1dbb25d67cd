"""What a finished audit need not keep. Torch-free: the worker calls it too."""

from audit.ports import FolderStore


def forget_activations(workspace: FolderStore) -> None:
    """Remove the activations of a finished audit; dictionaries, directions and the small results stay."""
    for name in list(workspace.names()):
        if name.startswith(("tuned-", "base-", "decoy-")):
            workspace.remove(name)
