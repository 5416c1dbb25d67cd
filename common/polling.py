"""Threads that repeat one step for as long as the process runs."""

import random
import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_SPREAD: Final = 0.1


class PollingLoop(threading.Thread):
    """Calls ``step`` until stopped; errors do not end it.

    Args:
        name: the thread's name, which log lines carry.
        step: one pass; returns the seconds until the next one, None for ``every_s``.
        every_s: pause between two passes.
        outage_s: pause after a pass that failed; by default ``every_s``.
        outages: errors that mean that something else is down. They are logged on one line, all others with their
            traceback.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], float | None],
        *,
        every_s: float,
        outage_s: float | None = None,
        outages: tuple[type[Exception], ...] = (),
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._step = step
        self._every_s = every_s
        self._outage_s = every_s if outage_s is None else outage_s
        self._outages = outages
        self._wake = threading.Event()
        self._stopping = False

    def run(self) -> None:
        """Run until told to stop."""
        while not self._stopping:
            self._wake.wait(self._pass())
            if not self._stopping:
                self._wake.clear()

    def wake(self) -> None:
        """End the current pause, because there is something to do."""
        self._wake.set()

    def stop(self, patience_s: float = 5.0) -> None:
        """Start no further pass, and wait up to ``patience_s`` for the current one."""
        self._stopping = True
        self._wake.set()
        if self.is_alive():
            self.join(patience_s)

    def _pass(self) -> float:
        try:
            pause_s = self._step()
        except self._outages as error:
            log.warning("loop.delayed", loop=self.name, error=type(error).__name__)
            return self._outage_s
        except Exception:
            log.exception("loop.failed", loop=self.name)
            return self._outage_s
        return self._every_s if pause_s is None else pause_s


def retry_pause(pauses_s: Sequence[float], tries: int) -> float | None:
    """Return the seconds before the attempt after ``tries`` earlier ones; None if the schedule has ended.

    Pauses are up to a tenth longer than scheduled, so that many retries do not arrive together.
    """
    if tries >= len(pauses_s):
        return None
    return pauses_s[tries] * random.uniform(1.0, 1.0 + _SPREAD)
