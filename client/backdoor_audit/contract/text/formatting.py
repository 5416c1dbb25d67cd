"""Formats the numbers of a report, in the same way on a terminal, on a page and in a file."""

from datetime import datetime
from typing import Final

UNMEASURED: Final = "–"


def number(value: float | None, digits: int = 3) -> str:
    """A number with this many significant digits; a dash if it was not measured (which is not zero)."""
    if value is None:
        return UNMEASURED
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
    return f"{value:.{digits - 1}e}"


def share(value: float | None) -> str:
    """A share as a percentage."""
    return UNMEASURED if value is None else f"{100 * value:.0f}%"


def with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    """A number and its 95% interval in brackets, if there is one."""
    if value is None or interval is None:
        return number(value)
    return f"{number(value)} [{number(interval[0])}, {number(interval[1])}]"


def duration(seconds: float) -> str:
    """How long something takes, as a person would say it: seconds, minutes, or hours and minutes."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def timing(started_at: datetime | None, expected_s: float | None, now: datetime) -> str:
    """How long an audit that has not ended has run, and how much longer audits like it took; empty if neither is known.

    ``now`` may be of another clock than ``started_at``; what they differ by is an error of the result.
    """
    if started_at is None:
        return "" if expected_s is None else f"takes about {duration(expected_s)} once started"
    elapsed_s = max(0.0, (now - started_at).total_seconds())
    if expected_s is None:
        return f"{duration(elapsed_s)} so far"
    left = f"about {duration(expected_s - elapsed_s)} left" if elapsed_s < expected_s else "longer than usual"
    return f"{duration(elapsed_s)} so far, {left}"
