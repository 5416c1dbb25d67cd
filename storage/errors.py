"""The errors of storage.

::

    StorageError              code, message, hint
    ├── InvalidLocation       invalid_spec  the address names no folder and no object store that can be used
    ├── DiskFull              no_space      the local disk, or a quota on it, is full
    └── StorageUnavailable    internal      the disk or the object store did not respond; try again later

``code`` is one of the published failure codes.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from common.problem_type import INTERNAL, NO_SPACE, STORE_UNAVAILABLE, ProblemType


class StorageError(Exception):
    """Something could not be written, read or deleted.

    Attributes:
        code: a published failure code.
        message: what is wrong; never an address, which may be signed or hold a password.
        hint: what the operator can do.
    """

    problem: ClassVar[ProblemType] = INTERNAL

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidLocation(StorageError):
    """The address names no folder and no object store that can be used."""

    problem: ClassVar[ProblemType] = INTERNAL

    code: ClassVar[str] = "invalid_spec"


class DiskFull(StorageError):
    """The local disk, or a quota on it, is full."""

    problem: ClassVar[ProblemType] = NO_SPACE

    code: ClassVar[str] = "no_space"


class StorageUnavailable(StorageError):
    """The disk or the object store did not answer; trying again later may help."""

    problem: ClassVar[ProblemType] = STORE_UNAVAILABLE

    code: ClassVar[str] = "internal"


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the file system's errors into this room's, with the cause kept.

    Args:
        doing: what was being done, for the message; no secrets.

    Raises:
        DiskFull: the disk or the quota is full.
        StorageUnavailable: any other ``OSError``.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space left while {doing}", hint="free space on the data folder's disk") from error
        reason = error.strerror or type(error).__name__
        raise StorageUnavailable(f"{doing} failed: {reason}", hint="check the disk and its permissions") from error
