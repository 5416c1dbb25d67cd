"""Seconds spent in each stage, and progress passed on to the sink."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from audit.ports import ProgressCallback, Sink
from backdoor_audit.contract.lifecycle import Stage


@dataclass
class StageClock:
    """Times the stages of an audit and reports their progress; a stage's fraction never decreases.

    Attributes:
        seconds: by stage, so far.
    """

    sink: Sink
    seconds: dict[str, float] = field(default_factory=dict)
    _repeat: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Iterator[ProgressCallback]:
        """Time a stage; returns the callback for its progress."""
        start = time.monotonic()
        reached = 0.0

        def progress(fraction: float, message: str) -> None:
            nonlocal reached
            reached = min(1.0, max(reached, fraction))
            self._repeat = lambda: self.sink.progress(stage, reached, message)
            self._repeat()

        progress(0.0, "")
        try:
            yield progress
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start
        progress(1.0, "")

    def tick(self, _tokens: int) -> None:
        """Report the last progress again; called after every batch, so that a cancel is noticed even during long
        steps.
        """
        self._repeat()


def part(progress: ProgressCallback, start: float, end: float) -> ProgressCallback:
    """The progress callback for work that takes a stage from ``start`` to ``end``."""
    return lambda fraction, message: progress(start + (end - start) * fraction, message)
