"""The errors of the embedded stack.

::

    LocalError              message, hint
    ├── DataDirInUse        another ``serve`` uses the data folder
    ├── AddressInUse        the address is taken, or cannot be bound
    ├── ChildFailed         a process did not start, or died too often
    └── SetupError          a folder, the broker's executable or its socket cannot be used
"""

__all__ = ["AddressInUse", "ChildFailed", "DataDirInUse", "LocalError", "SetupError"]


class LocalError(Exception):
    """The embedded stack cannot start, or cannot continue."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class DataDirInUse(LocalError):
    """Another ``serve`` uses this data folder."""


class AddressInUse(LocalError):
    """The address is taken, or cannot be bound."""


class ChildFailed(LocalError):
    """A process of the stack did not start, or died too often."""


class SetupError(LocalError):
    """Something that the stack needs on this machine is missing or unusable."""
