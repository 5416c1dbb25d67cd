"""What is deleted when an audit has finished. Torch-free: the worker calls it too."""

from audit.ports import FolderStore


def is_activations(name: str) -> bool:
    """Whether a folder of a workspace holds activations, which are large and not needed after the audit."""
    return name.startswith(("tuned-", "base-", "decoy-", "search-scan-", "search-deep-"))


def forget_activations(workspace: FolderStore) -> None:
    """Delete the activations of a finished audit; dictionaries, directions and the small results are kept."""
    for name in list(workspace.names()):
        if is_activations(name):
            workspace.remove(name)
