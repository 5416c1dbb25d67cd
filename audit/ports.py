"""An audit's interfaces to the outside: its inputs, where it writes, what it reports to, and what it reuses."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from backdoor_audit.contract.benign_library import LibraryEntry
from backdoor_audit.contract.digests import FileDigest
from backdoor_audit.contract.lifecycle import Stage
from backdoor_audit.contract.spec.audit_spec import AuditSpec

ProgressCallback = Callable[[float, str], None]
"""Receives the completed fraction of a stage (0 to 1) and a description of the current step; stops the audit by
raising."""

DeviceMap = Literal["single", "auto"]
"""``auto`` keeps weights that do not fit on the device elsewhere (``audit.models.placement``)."""


@runtime_checkable
class Sink(Protocol):
    """Receives progress, and stops an audit by raising."""

    def progress(self, stage: Stage, fraction: float, message: str = "") -> None:
        """Report that ``fraction`` (0 to 1) of ``stage`` is done.

        Raises:
            audit.errors.Cancelled: a cancel was requested.
            audit.errors.DeadlineExceeded: the audit's time is up.
        """


@runtime_checkable
class FolderStore(Protocol):
    """Named folders that are written whole or not at all."""

    def find(self, name: str) -> Path | None:
        """Return the finished folder ``name``, or None."""

    def create(self, name: str) -> AbstractContextManager[Path]:
        """Yield an empty folder to fill; on a clean exit it becomes ``name`` in one step, otherwise it is deleted.

        Raises:
            audit.errors.NoSpace or OSError: translated by the caller of the audit.
        """

    def obtain(self, name: str, write: Callable[[Path], None]) -> Path:
        """Return the finished folder ``name``; ``write`` fills it first if it does not exist.

        This is how a second attempt resumes: parts that the first one finished are found, and the rest is computed.

        Raises:
            audit.errors.NoSpace or OSError: as for ``create``. Whatever ``write`` raises is passed on.
        """

    def remove(self, name: str) -> None:
        """Delete the folder ``name`` if it exists."""

    def names(self) -> Iterator[str]:
        """Names of the finished folders."""


class NullSink:
    """A sink that discards progress; for benchmarks and scripts."""

    def progress(self, stage: Stage, fraction: float, message: str = "") -> None:
        """Do nothing."""


@dataclass(frozen=True)
class AuditInputs:
    """The arguments of one audit (see ``audit.run.run_audit``, which documents each)."""

    spec: AuditSpec
    base_dir: Path
    tuned_dir: Path
    workspace: FolderStore
    sink: Sink
    cache: FolderStore | None = None
    library: tuple[LibraryEntry, ...] = ()
    audit_id: str = "local"
    base_digest: str = ""
    tuned_digest: str = ""
    base_files: tuple[FileDigest, ...] = ()
    tuned_files: tuple[FileDigest, ...] = ()
    device: str = "auto"
    device_map: DeviceMap = "single"
