"""What a check found."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

State = Literal["ok", "warning", "bad"]

MAX_SKEW_S: Final = 2.0


@dataclass(frozen=True)
class Finding:
    """What was checked, the result, and what to do about it; ``advice`` is empty if all is well."""

    name: str
    state: State
    found: str
    advice: str = ""


def clock_skew(name: str, theirs: datetime) -> Finding:
    """Compare another clock with this machine's."""
    seconds = abs((datetime.now(UTC) - theirs).total_seconds())
    if seconds <= MAX_SKEW_S:
        return Finding(name, "ok", f"{seconds:.1f} s from this machine's clock")
    return Finding(
        name, "warning", f"{seconds:.0f} s from this machine's clock",
        "synchronise both with NTP: leases use one clock and are safe, but times in logs, keys and webhooks will "
        "disagree",
    )  # fmt: skip
