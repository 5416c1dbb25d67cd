"""Whether the worker has been asked to go, as seen by everything that runs in it."""

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
        """Count one more request to go."""
        self.requests += 1
        if self._since is None:
            self._since = time.monotonic()

    @property
    def requested(self) -> bool:
        """Whether the worker should end what it does in good order."""
        return self.requests > 0

    def is_over(self, grace_s: float) -> bool:
        """Whether there is no more time for good order: ``grace_s`` has passed, or somebody asked twice."""
        return self.requests > 1 or (self._since is not None and time.monotonic() - self._since >= grace_s)
