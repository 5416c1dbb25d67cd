"""A measured figure with its goal, in the form that all benchmarks write."""

from typing import Any


def at_most(figure: str, measured: float, limit: float, unit: str = "") -> dict[str, Any]:
    """A figure that should not exceed ``limit``."""
    return _row(figure, f"≤ {limit:g}{unit}", measured, unit, measured <= limit)


def at_least(figure: str, measured: float, limit: float, unit: str = "", *, applies: bool = True) -> dict[str, Any]:
    """A figure that should reach ``limit``; not judged if the goal does not apply to this machine."""
    return _row(figure, f"≥ {limit:g}{unit}", measured, unit, measured >= limit if applies else None)


def _row(figure: str, goal: str, measured: float, unit: str, met: bool | None) -> dict[str, Any]:
    return {"figure": figure, "goal": goal, "measured": f"{measured:.3g}{unit}", "met": met}
