"""A clock that stands still until a test moves it, and a bound that a stalled machine does not break."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from jobs.clock import Instant


class ManualClock:
    """Given to a ledger, or shared by several of one database; ``advance`` lets leases, deadlines and waits run out."""

    def __init__(self, began_at: datetime | None = None) -> None:
        self._seconds = 0.0
        self._began_at = began_at or datetime.now(UTC)

    def advance(self, seconds: float) -> None:
        """Let this many seconds pass."""
        self._seconds += seconds

    def read(self, connection: Connection | None) -> Instant:
        """Return the time that the test has set; the database is not asked."""
        at = self._began_at + timedelta(seconds=self._seconds)
        return Instant(at=at, tick=self._seconds, epoch="manual")


def ends_within(seconds: float, call: Callable[[], object], *, tries: int = 3) -> bool:
    """Whether ``call`` ends in less than ``seconds`` in one of ``tries``.

    A machine that stalls delays one of them; a wait that is built in delays them all.
    """
    for _ in range(tries):
        started_at = time.monotonic()
        call()
        if time.monotonic() - started_at < seconds:
            return True
    return False
