"""The clocks that measure leases, deadlines and retention.

Several processes compare these readings, so they must share a clock, and a jump of the wall clock must neither expire a
lease nor keep one alive. On PostgreSQL all processes read the database's clock. On SQLite they all run on one machine
and read its boot-time clock, which nobody can set and which keeps running while the machine sleeps. That clock restarts
at boot, so each reading carries the boot's id: a lease of an earlier boot has expired, because its worker is gone.

Tests hand the ledger a clock of their own, so that no test waits for a lease to run out.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Connection, text

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_DATABASE_EPOCH: Final = "database"
_WALL_EPOCH: Final = "wall"


@dataclass(frozen=True)
class Instant:
    """One reading: ``at`` for people, ``tick`` (seconds, comparable within one ``epoch``) for leases."""

    at: datetime
    tick: float
    epoch: str

    def due_in(self, seconds: float) -> dict[str, Any]:
        """Return the columns of an audit that make it due after ``seconds``."""
        return {"due_tick": self.tick + seconds, "due_epoch": self.epoch}


class Clock(Protocol):
    """Where the ledger reads the time."""

    def read(self, connection: Connection) -> Instant:
        """Return the current instant. Call it after taking row locks: waiting for one takes time."""


class DatabaseClock:
    """The clock of a PostgreSQL server."""

    _QUERY: Final = text("SELECT clock_timestamp() AS at, extract(epoch FROM clock_timestamp())::float8 AS tick")

    def read(self, connection: Connection) -> Instant:
        """Ask the server."""
        row = connection.execute(self._QUERY).one()
        return Instant(at=row.at.astimezone(UTC), tick=row.tick, epoch=_DATABASE_EPOCH)


class BootClock:
    """This machine's boot-time clock; the wall clock on systems without a boot-time clock or a boot id."""

    def __init__(self, boot_id: Path = _BOOT_ID) -> None:
        try:
            self._epoch = boot_id.read_text().strip() or _WALL_EPOCH
        except OSError:
            self._epoch = _WALL_EPOCH
        self._boottime: int | None = getattr(time, "CLOCK_BOOTTIME", None)

    def read(self, connection: Connection) -> Instant:
        """Read the machine's clock without asking the database."""
        at = datetime.now(UTC)
        if self._boottime is None or self._epoch == _WALL_EPOCH:
            return Instant(at=at, tick=at.timestamp(), epoch=_WALL_EPOCH)
        return Instant(at=at, tick=time.clock_gettime(self._boottime), epoch=self._epoch)
