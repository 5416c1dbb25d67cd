"""Limits the requests of each key, counted in this process."""

import math
import time
from collections.abc import Callable
from typing import Final

_MOST_KEPT: Final = 10_000
"""Maximum number of tracked keys; beyond that, those with a full allowance are dropped."""


class RateLimit:
    """A token bucket for each key: a minute's allowance at once, refilled evenly.

    For one event loop: nothing here waits, so no lock is needed.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with full buckets.

        Args:
            per_minute: requests that a key may make in a minute; 0 for no limit.
            clock: seconds, as in ``time.monotonic``.
        """
        self._per_minute = per_minute
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, key_id: str) -> int:
        """Take one request from a key's allowance: 0 if there was one, otherwise whole seconds until there is one."""
        if not self._per_minute:
            return 0
        now = self._clock()
        left = self._now(key_id, now)
        if left < 1:
            return max(1, math.ceil((1 - left) * 60 / self._per_minute))
        self._left[key_id] = (left - 1, now)
        if len(self._left) > _MOST_KEPT:
            self._left = {key: kept for key, kept in self._left.items() if self._now(key, now) < self._per_minute}
        return 0

    def _now(self, key_id: str, now: float) -> float:
        left, at = self._left.get(key_id, (float(self._per_minute), now))
        return min(float(self._per_minute), left + (now - at) * self._per_minute / 60)
