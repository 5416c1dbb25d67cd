"""What is deleted when an audit has finished. Torch-free: the worker calls it too."""

from audit.ports import FolderStore


def is_activations(name: str) -> bool:
    """Whether a folder of a workspace holds activations, which are large and useless after the audit."""
    return name.startswith(("tuned-", "base-", "decoy-"))


def forget_activations(workspace: FolderStore) -> None:
    """Remove the activations of a finished audit; dictionaries, directions and the small results stay."""
    for name in list(workspace.names()):
        if is_activations(name):
            workspace.remove(name)
