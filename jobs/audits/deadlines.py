"""Deadlines: seconds from the first claim, waits between attempts included; the spec's, bounded by the operator's."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from jobs.clock import Instant


def begin(deadline_s: float | None, now: Instant) -> dict[str, Any]:
    """Return the columns of an audit whose first claim is ``now``."""
    if deadline_s is None:
        return {}
    return {
        "deadline_at": now.at + timedelta(seconds=deadline_s),
        "deadline_tick": now.tick + deadline_s,
        "deadline_epoch": now.epoch,
    }


def of(deadline_s: int | None, most_s: float | None) -> float | None:
    """The seconds that an audit has: as its spec says, and no more than the operator gives any."""
    given = [seconds for seconds in (deadline_s, most_s) if seconds is not None]
    return min(given, default=None)


def seconds_left(row: Mapping[str, Any], now: Instant) -> float | None:
    """Return the seconds to the deadline, negative when it has passed; None if the audit has none (yet).

    After a reboot the tick of the first claim means nothing any more; then the wall clock decides.
    """
    if row["deadline_at"] is None:
        return None
    if row["deadline_epoch"] == now.epoch:
        return float(row["deadline_tick"] - now.tick)
    return float((row["deadline_at"] - now.at).total_seconds())


def has_passed(row: Mapping[str, Any], now: Instant) -> bool:
    """Return whether the audit had a deadline and it is over."""
    left = seconds_left(row, now)
    return left is not None and left <= 0
