"""How the numbers of a report are written, alike on a terminal, on a page and in a file."""

from typing import Final

UNMEASURED: Final = "–"


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits; a dash where it was not measured (which is not zero)."""
    if value is None:
        return UNMEASURED
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
    return f"{value:.{digits - 1}e}"


def share(value: float | None) -> str:
    """A share as a percentage."""
    return UNMEASURED if value is None else f"{100 * value:.0f}%"


def with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    """A number and its 95% interval in brackets, where there is one."""
    if value is None or interval is None:
        return number(value)
    return f"{number(value)} [{number(interval[0])}, {number(interval[1])}]"
