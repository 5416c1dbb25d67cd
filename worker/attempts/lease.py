"""Keeps the lease of one attempt alive in a separate thread, and learns whether to stop."""

import threading
import time
from typing import Final

import structlog

from backdoor_audit.contract.lifecycle import STAGES
from jobs.errors import LeaseLost, LedgerError, LedgerUnavailable
from jobs.ledger import Ledger
from jobs.records import Claim
from worker.sandbox.protocol import Progress

_PROGRESS_INTERVAL_S: Final = 1.0
_RETRY_S: Final = 1.0
_MOST_AT_ONCE: Final = 4 * len(STAGES)
"""New stages that the ledger hears of at once. An audit that starts over has twice as many; a sandbox could say that it
has changed its stage thousands of times a second."""

log = structlog.get_logger(__name__)


class LeaseKeeper(threading.Thread):
    """Sends heartbeats and the latest progress; a slow or unreachable database delays only this thread.

    While the ledger cannot be reached it tries again every second, for as long as the attempt lasts: a lease that ran
    out meanwhile still holds where nobody took over, and where somebody did the next call says so.
    """

    def __init__(self, ledger: Ledger, claim: Claim, *, heartbeat_s: float) -> None:
        super().__init__(name="lease", daemon=True)
        self.lost = False
        """Another attempt has the audit, or it has ended: nothing that this one writes counts."""
        self.cancel_requested = False
        self._ledger = ledger
        self._claim = claim
        self._heartbeat_s = heartbeat_s
        self._wake = threading.Event()
        self._stopping = False
        self._progress: Progress | None = None
        self._stage_told: str | None = None
        self._heartbeat_at = time.monotonic() + heartbeat_s
        self._progress_at = 0.0
        self._told_at_once = 0
        self._deadline = _deadline(claim.seconds_left)

    @property
    def overdue(self) -> bool:
        """Whether the audit's deadline has passed."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def report(self, progress: Progress) -> None:
        """Take note of progress; the ledger gets the latest of each second, and so many new stages at once."""
        self._progress = progress
        if self._is_urgent(progress):
            self._wake.set()

    def stop(self) -> None:
        """End the thread; the lease is left as it is."""
        self._stopping = True
        self._wake.set()
        self.join()

    def run(self) -> None:
        """Keep the lease until told to stop or until it is lost."""
        while not self._stopping and not self.lost:
            self._wake.wait(self._pause())
            self._wake.clear()
            try:
                self._look_after()
            except LeaseLost:
                self.lost = True
            except LedgerUnavailable:
                self._wait_for_ledger()
            except LedgerError as error:
                log.error("lease.failed", error=type(error).__name__)
                self._wait_for_ledger()

    def _look_after(self) -> None:
        now = time.monotonic()
        if now >= self._heartbeat_at:
            answer = self._ledger.heartbeat(self._claim)
            self.cancel_requested = answer.cancel_requested
            self._deadline = _deadline(answer.seconds_left)
            self._heartbeat_at = time.monotonic() + self._heartbeat_s
        progress = self._progress
        urgent = progress is not None and self._is_urgent(progress)
        if progress is not None and (urgent or now >= self._progress_at):
            self._told_at_once += urgent
            # Its result reveals a cancel without waiting for the next heartbeat.
            if self._ledger.progress(self._claim, progress.stage, progress.fraction, progress.message):
                self.cancel_requested = True
            self._stage_told = progress.stage
            self._progress_at = time.monotonic() + _PROGRESS_INTERVAL_S
            if self._progress is progress:
                self._progress = None

    def _is_urgent(self, progress: Progress) -> bool:
        return progress.stage != self._stage_told and self._told_at_once < _MOST_AT_ONCE

    def _pause(self) -> float:
        now = time.monotonic()
        due = self._heartbeat_at if self._progress is None else min(self._heartbeat_at, self._progress_at)
        return max(due - now, 0.0)

    def _wait_for_ledger(self) -> None:
        if not self._stopping:
            time.sleep(_RETRY_S)


def _deadline(seconds_left: float | None) -> float | None:
    return None if seconds_left is None else time.monotonic() + seconds_left
