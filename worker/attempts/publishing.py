"""The artifacts of one attempt and the object store they are kept in. Torch-free.

The sandbox works in a local folder and knows nothing of the store. Around it, the worker fetches what an earlier
attempt has published, publishes each folder soon after it is finished, and all of it before the ledger hears of a
success. So an attempt on another machine continues where the last one stopped, except for activations, which are
computed again.
"""

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from audit.retention import is_activations
from backdoor_audit.contract.lifecycle import Failure
from common.polling import PollingLoop
from storage.errors import StorageError
from storage.folders import ArtifactFolder
from storage.objects import ObjectArtifacts
from worker.sandbox.protocol import REPORT_FOLDER, Reason

_EVERY_S: Final = 5.0
"""Pause between two looks at what is finished."""
_RETRY_S: Final = 5.0
_JOIN_S: Final = 10.0
_MAX_FOLDERS: Final = 4_096

log = structlog.get_logger(__name__)


class Publisher:
    """Moves the artifacts of one audit between its local folder and the store.

    Args:
        store: where finished artifacts are kept.
        audit_id: whose they are.
        workspace: the local folder.
        keep_activations: whether they are published with the rest, at the end.
        wanted: whether this attempt still has the audit; nothing becomes visible after it has not.
    """

    def __init__(
        self,
        store: ObjectArtifacts,
        audit_id: str,
        workspace: ArtifactFolder,
        *,
        keep_activations: bool,
        wanted: Callable[[], bool],
    ) -> None:
        self._store = store
        self._audit_id = audit_id
        self._workspace = workspace
        self._keep_activations = keep_activations
        self._wanted = wanted
        self._published: set[str] = set()
        self._lock = threading.Lock()

    def fetch(self) -> None:
        """Bring what earlier attempts have published; the report alone if there is one.

        Raises:
            OSError: the local disk refused.
            StorageError: the store did not answer.
        """
        names = [name for name in self._store.list(self._audit_id) if not is_activations(name)]
        chosen = [REPORT_FOLDER] if REPORT_FOLDER in names else names
        missing = [name for name in chosen if self._workspace.find(name) is None]
        fetched = [name for name in missing if self._store.fetch(self._audit_id, name, self._workspace)]
        if fetched:
            log.info("artifacts.fetched", names=fetched)

    def publish(self) -> None:
        """Publish everything, the report last: where it is, all is.

        Raises:
            OSError: the local folder cannot be read, or holds too much.
            StorageError: the store did not take it all.
        """
        with self._lock:
            names = [name for name in self._names() if self._keep_activations or not is_activations(name)]
            for name in sorted(names, key=lambda name: name == REPORT_FOLDER):
                self._publish_one(name)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Publish artifacts as they are finished, in a thread, while the sandbox runs."""
        loop = PollingLoop("publisher", self._publish_finished, every_s=_EVERY_S, outages=(StorageError, OSError))
        loop.start()
        try:
            yield
        finally:
            loop.stop(_JOIN_S)

    def _publish_finished(self) -> None:
        with self._lock:
            for name in self._names():
                # A report in the making is the sandbox's word; it is published when it has been read.
                if name not in self._published and name != REPORT_FOLDER and not is_activations(name):
                    self._publish_one(name)

    def _publish_one(self, name: str) -> None:
        folder = self._workspace.find(name)
        if folder is None or not self._wanted():
            return
        if self._store.publish(self._audit_id, name, folder, wanted=self._wanted):
            self._published.add(name)

    def _names(self) -> list[str]:
        names = list(self._workspace.names(most=_MAX_FOLDERS + 1))
        if len(names) > _MAX_FOLDERS:
            raise OSError(f"an audit left more than {_MAX_FOLDERS} folders")
        return names


def insist(
    action: Callable[[], None], why_stop: Callable[[], Reason | None], waiting: Callable[[str], None]
) -> Failure | Reason | None:
    """Repeat an action on the store until it succeeds, or there is a reason to stop.

    Args:
        action: the action; it may run several times.
        why_stop: asked between two tries.
        waiting: called after each failed try, with a message for people.

    Returns:
        None when it is done; otherwise the reason, or what the local disk refused, which trying again would not help.
    """
    while (reason := why_stop()) is None:
        try:
            action()
        except StorageError as error:
            log.warning("artifacts.delayed", reason=error.message)
            waiting("waiting for the artifact store")
            time.sleep(_RETRY_S)
        except OSError as error:
            log.error("artifacts.rejected", error=type(error).__name__)
            return _local_failure(error)
        else:
            return why_stop()
    return reason


def _local_failure(error: OSError) -> Failure:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(
            code="no_space",
            message="the worker's disk ran full while artifacts were fetched",
            hint="free space on the data folder's disk and submit the audit again",
        )
    return Failure(code="internal", message="the audit's artifacts could not be read or written on the worker's disk")
