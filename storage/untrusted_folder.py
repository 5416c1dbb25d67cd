"""The regular files directly in a folder that untrusted code may have filled, and may still be filling."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from storage.folders import NAME

MAX_FILES: Final = 4_096
"""The most that one artifact may hold."""


class FlatFile(BaseModel):
    """One of the files, by what is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=rf"^(?:{NAME.pattern})$")]
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@contextmanager
def folder_at(path: Path) -> Iterator[int]:
    """An open folder, which stays the same whatever is put in its place."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def regular_file(root: int, name: str) -> Iterator[BufferedReader | None]:
    """A file right in an open folder; None if it is a link, has a second name, or is no file at all.

    Whoever filled the folder may have put a link to a file of ours there.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=root)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        yield None
        return
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        yield None
        return
    with os.fdopen(descriptor, "rb") as opened:
        yield opened


def described(root: int) -> tuple[FlatFile, ...]:
    """Name, size and digest of every file that goes along, by name.

    Raises:
        OSError: one cannot be read, or there are too many.
    """
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if NAME.fullmatch(entry.name))
    if len(names) > MAX_FILES:
        raise OSError(f"an artifact holds more than {MAX_FILES} files")
    found: list[FlatFile] = []
    for name in names:
        with regular_file(root, name) as file:
            if file is not None:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                found.append(FlatFile(name=name, size=file.tell(), sha256=digest))
    return tuple(found)
