"""The data folder is its user's alone: other users of the machine neither list nor read it.

Each process writes privately from its start, and closes what an earlier version left open. A folder that everybody may
write to (``/tmp``) is not ours to close: it is refused.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_FILES: Final = ("ledger.sqlite3*", "logs/*", "store/digests*")
"""Below the data folder, files that earlier versions left readable."""

log = structlog.get_logger(__name__)


class PublicFolder(OSError):
    """The data folder is one that everybody may write to."""


def write_privately() -> None:
    """Make everything that this process and its children write from now on its user's alone; for entry points."""
    os.umask(_OTHERS)


def keep_private(data_dir: Path) -> None:
    """Make the data folder, and close it and its files to others where they are open.

    What is another user's cannot be closed; that is logged, and ``backdoor-audit doctor`` says what to do.

    Raises:
        PublicFolder: everybody may write to the folder.
        OSError: it cannot be made.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if data_dir.stat().st_mode & stat.S_ISVTX:
        raise PublicFolder(f"{data_dir} is a folder that everybody may write to: choose one below it")
    for path in list(open_to_others(data_dir)):
        try:
            path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~_OTHERS)
        except OSError as error:
            log.warning("data_folder.open", file=path.name, error=type(error).__name__)


def open_to_others(data_dir: Path) -> Iterator[Path]:
    """The data folder and its files that other users of the machine may list, read or write; no links."""
    for path in (data_dir, *(path for pattern in _FILES for path in data_dir.glob(pattern))):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISLNK(mode) and mode & _OTHERS:
            yield path
