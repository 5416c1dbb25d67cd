"""What an audit is given from outside: where to write, whom to tell, what to reuse."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from backdoor_audit.contract.spec import Stage


@runtime_checkable
class Sink(Protocol):
    """Receives progress, and is where an audit learns that it should stop."""

    def progress(self, stage: Stage, fraction: float, message: str = "") -> None:
        """Report that ``fraction`` (0–1) of ``stage`` is done.

        Raises:
            audit.errors.Cancelled: a cancel was asked for.
            audit.errors.DeadlineExceeded: the audit's time is up.
        """


@runtime_checkable
class FolderStore(Protocol):
    """Named folders that are written whole or not at all."""

    def find(self, name: str) -> Path | None:
        """Return the finished folder ``name``, or None."""

    def create(self, name: str) -> AbstractContextManager[Path]:
        """Give an empty folder to fill; on a clean exit it becomes ``name`` in one step, else it is gone.

        Raises:
            audit.errors.NoSpace or OSError: translated by the caller of the audit.
        """

    def remove(self, name: str) -> None:
        """Delete the folder ``name`` if it is there."""

    def names(self) -> Iterator[str]:
        """Names of the finished folders."""


class NullSink:
    """A sink that tells nobody; for benchmarks and scripts."""

    def progress(self, stage: Stage, fraction: float, message: str = "") -> None:
        """Do nothing."""
