"""Whether the worker has been asked to stop, as seen by everything that runs in it."""

import time


class Shutdown:
    """Set from a signal handler, read from anywhere.

    It is made of plain assignments and no lock: a handler runs between two instructions of the main thread, which may
    be the one that holds the lock.
    """

    def __init__(self) -> None:
        self.requests = 0
        self._since: float | None = None

    def request(self) -> None:
        """Count one more request to stop."""
        self.requests += 1
        if self._since is None:
            self._since = time.monotonic()

    @property
    def requested(self) -> bool:
        """Whether the worker should wind down."""
        return self.requests > 0

    def is_over(self, grace_s: float) -> bool:
        """Whether the time for winding down is over: ``grace_s`` has passed, or a second request came."""
        return self.requests > 1 or (self._since is not None and time.monotonic() - self._since >= grace_s)
