"""Writes verdicts back to the registry as tags of the audited versions, for as long as the service runs.

Like the loop that sends webhooks, it runs in the API's process, because workers may have no network access. No audit
waits for it or fails because of it. Several replicas share the notes in the ledger; each version is handled by one of
them at a time.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from common.polling import PollingLoop, retry_pause
from jobs.errors import LedgerError
from jobs.version_tags import Ends, TagTask, VersionTagRepository
from models_store.errors import ModelNotFound, ModelRejected, StoreError
from models_store.references import parse_reference
from models_store.sources.mlflow_registry import MlflowRegistry, RegisteredVersion

PREFIX: Final = "backdoor_audit."

_POLL_S: Final = 1.0
_OUTAGE_S: Final = 5.0
_LEASE_S: Final = 900.0
"""Longer than MLflow's library keeps trying."""
_PRUNE_EVERY_S: Final = 3600.0
_KEPT_S: Final = 30 * 86_400.0
"""How long a note is kept for a version whose tags are never written."""

log = structlog.get_logger(__name__)


class TagLoop(PollingLoop):
    """Takes versions whose tags are due, one at a time, and writes them.

    Args:
        book: the notes.
        registry: where tags are written.
        fetched_digest: the content digest of a version as it is registered now; None if it was never fetched.
        retry_s: pauses before each further attempt.
        public_url: the service's address for people; None leaves out the report's address.
    """

    def __init__(
        self,
        book: VersionTagRepository,
        registry: MlflowRegistry,
        fetched_digest: Callable[[RegisteredVersion], str | None],
        retry_s: Sequence[float],
        public_url: str | None,
    ) -> None:
        super().__init__("mlflow-tags", self._step_once, every_s=_POLL_S, outage_s=_OUTAGE_S, outages=(LedgerError,))
        self._book = book
        self._registry = registry
        self._fetched_digest = fetched_digest
        self._retry_s = tuple(retry_s)
        self._public_url = public_url
        self._next_prune = time.monotonic() + _PRUNE_EVERY_S

    def _step_once(self) -> float | None:
        """Write the tags of one version; return how long to pause."""
        return 0.0 if self._write_next() else None

    def _write_next(self) -> bool:
        """Write the tags of one version; return whether there was one."""
        if time.monotonic() >= self._next_prune:
            self._next_prune = time.monotonic() + _PRUNE_EVERY_S
            self._book.prune(older_than_s=_KEPT_S)
        task = self._book.take(lease_s=_LEASE_S)
        if task is None:
            return False
        error, final = self._write(task)
        retry_in_s = None if error is None or final else retry_pause(self._retry_s, task.tries)
        self._book.settle(task, error=error, retry_in_s=retry_in_s)
        log.info("tags.written", reference=task.reference, error=error, retry_in_s=retry_in_s)
        return True

    def _write(self, task: TagTask) -> tuple[str | None, bool]:
        """Try once. Returns the reason for a failure, in a word, and whether another attempt would end the same way."""
        try:
            version = self._registry.version(parse_reference(task.reference))
            # Whoever deletes a model and registers another under its name gets the same number again.
            since = datetime.fromtimestamp(version.created_ms / 1000, UTC)
            ends = self._book.ends(task.reference, tuned_digest=self._fetched_digest(version), since=since)
            if ends is not None:
                self._registry.tag(version.reference, tags_of(ends, self._public_url))
        except ModelNotFound:
            return "not_found", True
        except ModelRejected:
            return "refused", False
        except StoreError:
            return "unreachable", False
        except LedgerError:
            raise
        except Exception:
            # Otherwise it would be retried forever without being counted.
            log.exception("tags.failed", reference=task.reference)
            return "internal", False
        return None, True


def tags_of(ends: Ends, public_url: str | None) -> dict[str, str]:
    """The tags of a version, the verdict first: the most severe verdict, and how the last audit ended."""
    tags = {}
    if ends.answer is not None:
        tags = {
            "verdict": ends.answer.verdict,
            "audit_id": ends.answer.audit_id,
            "audited_at": ends.answer.finished_at.isoformat(timespec="seconds"),
            "method_version": ends.answer.method_version,
            "digest": ends.answer.tuned_digest,
        }
        if public_url is not None:
            tags["report_url"] = f"{public_url.rstrip('/')}/ui/audits/{ends.answer.audit_id}"
    tags |= {"last_audit_id": ends.last_id, "last_status": ends.last_status}
    return {f"{PREFIX}{name}": value for name, value in tags.items()}
