"""Commits that take longer than a request may: each runs in a thread, and whoever asks for it again joins it."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from models_store.errors import BeingCommitted

T = TypeVar("T")

_AT_ONCE: Final = 4


@dataclass(frozen=True)
class _Job(Generic[T]):
    """A commit of one state of an upload."""

    state: object
    outcome: "Future[T]"


class Commits(Generic[T]):
    """The commits of this process. Safe to share between threads.

    Their threads do not keep the process from ending. What a process that ends has not finished is begun anew by the
    next one that is asked.
    """

    def __init__(self) -> None:
        self._jobs: dict[Hashable, _Job[T]] = {}
        self._lock = threading.Lock()
        self._turn = threading.BoundedSemaphore(_AT_ONCE)

    def outcome(self, upload: Hashable, state: object, commit: Callable[[], T], patience_s: float) -> T | None:
        """What a commit returns, or None while it is under way.

        Args:
            upload: which one.
            state: what tells this state of the upload from others: how another state's commit ended is of no interest.
            commit: commits it, where nobody does already.
            patience_s: how long to wait for it.

        Raises:
            Exception: whatever the commit raises, once; asking again begins it anew.
        """
        job = self._job(upload, state, commit)
        wait([job.outcome], timeout=patience_s)
        if not job.outcome.done():
            return None
        with self._lock:
            if self._jobs.get(upload) is job:
                del self._jobs[upload]
        try:
            return job.outcome.result()
        except BeingCommitted:
            return None

    def _job(self, upload: Hashable, state: object, commit: Callable[[], T]) -> _Job[T]:
        with self._lock:
            job = self._jobs.get(upload)
            if job is None or (job.outcome.done() and job.state != state):
                job = self._jobs[upload] = _Job(state, Future())
                threading.Thread(target=self._run, args=(commit, job), name="commit", daemon=True).start()
            return job

    def _run(self, commit: Callable[[], T], job: _Job[T]) -> None:
        try:
            with self._turn:
                result = commit()
        except BaseException as error:
            job.outcome.set_exception(error)
        else:
            job.outcome.set_result(result)
