"""How far an audit has come, as one number."""

import math
from typing import Final

from backdoor_audit.contract.lifecycle import STAGES, Stage

_WEIGHTS: Final[dict[Stage, float]] = {
    "resolve": 0.02,
    "preflight": 0.03,
    "extract": 0.30,
    "train": 0.30,
    "confirm": 0.25,
    "calibrate": 0.02,
    "explain": 0.05,
    "report": 0.03,
}
"""Rough shares of the time without a search, for a progress bar; they add up to 1 and promise nothing."""

_SEARCH: Final = 0.6
"""Share of a search, where there is one; the other stages share the rest."""

_EVENT_STEP: Final = 0.05


def clamp(fraction: float) -> float:
    """Bring a reported fraction into 0–1; what is not a number counts as 0, since progress must never end an audit."""
    return min(max(fraction, 0.0), 1.0) if math.isfinite(fraction) else 0.0


def overall(stage: Stage, fraction: float, *, searches: bool = False) -> float:
    """Return the share of the whole audit that is done when ``fraction`` (0–1) of ``stage`` is.

    Args:
        searches: whether the audit looks for its strings first.
    """
    share = _SEARCH if searches else 0.0
    weights = {each: weight * (1 - share) for each, weight in _WEIGHTS.items()} | {"search": share}
    before = sum(weights[earlier] for earlier in STAGES[: STAGES.index(stage)])
    return round(before + weights[stage] * clamp(fraction), 6)


def worth_an_event(stage: Stage, fraction: float, *, last_stage: Stage | None, last_fraction: float) -> bool:
    """Return whether a step goes into the history: a new stage, or a twentieth of the present one."""
    return stage != last_stage or abs(clamp(fraction) - last_fraction) >= _EVENT_STEP
