"""The artifacts of one attempt: the report that it reads, what it publishes, and what it deletes."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal

import structlog
from pydantic import ValidationError

from audit.retention import forget_activations
from backdoor_audit.contract.lifecycle import Failure, Stage
from backdoor_audit.contract.report.audit_report import AuditReport
from jobs.records import Claim
from storage.errors import StorageError
from storage.folders import ArtifactFolder
from storage.locations import Artifacts
from storage.untrusted_folder import folder_at, regular_file
from worker.attempts.context import WorkerContext
from worker.attempts.publishing import Publisher, insist
from worker.attempts.report_check import mismatches
from worker.sandbox.protocol import REPORT_FILE, REPORT_FOLDER, Progress, Reason

MAX_REPORT_BYTES: Final = 32 * 1024 * 1024
"""Thirty times what the longest report has. It is parsed in the worker and in the API, whoever wrote it."""
MAX_REPORT_VALUES: Final = 300_000
"""Many times what the largest report has. Each takes hundreds of bytes once it is parsed, or found wrong."""

log = structlog.get_logger(__name__)


class AttemptArtifacts:
    """The working folder of one audit and, if there is one, the object store around it.

    Args:
        context: what the worker has.
        claim: whose artifacts these are.
        why_stop: the reason to give up waiting for the store, None while there is none.
        report_progress: is told what the attempt waits for.
    """

    def __init__(
        self,
        context: WorkerContext,
        claim: Claim,
        *,
        why_stop: Callable[[], Reason | None],
        report_progress: Callable[[Progress], None],
    ) -> None:
        self.folder: Final[ArtifactFolder] = context.artifacts.folder(claim.audit_id)
        self._context = context
        self._claim = claim
        self._why_stop = why_stop
        self._report_progress = report_progress
        self._publisher = (
            None
            if context.published is None
            else Publisher(
                context.published,
                claim.audit_id,
                self.folder,
                keep_activations=claim.spec.keep_activations,
                wanted=lambda: why_stop() is None,
            )
        )

    def read_report(
        self, digests: tuple[str, str], *, notes: Sequence[str] = (), within_s: float | None = None
    ) -> AuditReport | None:
        """Return the report that the sandbox wrote; None if there is none. It is validated as an untrusted file.

        Args:
            digests: of the base and the fine-tuned checkpoint.
            notes: what the report must say about the checkpoints; the worker's word, whatever the sandbox wrote.
            within_s: how long the sandbox has run; None for one of an earlier attempt.
        """
        folder = self.folder.find(REPORT_FOLDER)
        if folder is None:
            return None
        try:
            with folder_at(folder) as root, regular_file(root, REPORT_FILE) as file:
                written = b"" if file is None else file.read(MAX_REPORT_BYTES + 1)
            if len(written) > MAX_REPORT_BYTES:
                raise ValueError("the report is too large")
            if _values_at_most(written) > MAX_REPORT_VALUES:
                raise ValueError("the report has too many values")
            report = AuditReport.model_validate_json(written)
            if wrong := mismatches(report, self._claim, digests, within_s=within_s):
                log.error("report.rejected", mismatches=wrong)
                return None
        except (OSError, ValueError, ValidationError) as error:
            log.error("report.rejected", error=type(error).__name__)
            return None
        missing = tuple(note for note in notes if note not in report.warnings)
        return report.model_copy(update={"warnings": (*report.warnings, *missing)}) if missing else report

    def publishing(self) -> AbstractContextManager[None]:
        """Publish finished artifacts while the sandbox runs; nothing without an object store."""
        return nullcontext() if self._publisher is None else self._publisher.running()

    def persist(self, what: Literal["fetch", "publish"]) -> Failure | Reason | None:
        """Fetch or publish artifacts, waiting for a store that is down; None when done, or without a store."""
        if self._publisher is None:
            return None
        action = self._publisher.fetch if what == "fetch" else self._publisher.publish
        stage: Stage
        stage, fraction = ("resolve", 0) if what == "fetch" else ("report", 1)

        def waiting(message: str) -> None:
            self._report_progress(Progress(stage=stage, fraction=fraction, message=message))

        return insist(action, self._why_stop, waiting)

    def sweep(self) -> None:
        """Delete what a sandbox has left beside its artifacts, which nobody would find or count."""
        try:
            self.folder.sweep()
        except OSError as error:
            log.warning("artifacts.left", error=type(error).__name__)

    def forget_activations(self) -> None:
        """Delete the activations, unless the spec keeps them."""
        if self._claim.spec.keep_activations:
            return
        try:
            forget_activations(self.folder)
        except OSError as error:
            log.warning("activations.left", error=type(error).__name__)

    def drop(self) -> None:
        """Delete everything: what an audit without a report leaves is useless, and may be gigabytes."""
        self._drop(self._context.artifacts)
        if self._context.published is not None:
            self._drop(self._context.published)

    def drop_working_copy(self) -> None:
        """Delete the local folder if everything in it has been published."""
        if self._publisher is not None:
            self._drop(self._context.artifacts)

    def _drop(self, artifacts: Artifacts) -> None:
        try:
            artifacts.delete(self._claim.audit_id)
        except (OSError, StorageError) as error:
            log.warning("artifacts.left", error=type(error).__name__)  # the sweep deletes them


def _values_at_most(text: bytes) -> int:
    """An upper bound on the values of a JSON text, without parsing it: each is the first of its array or object, or
    follows a comma.
    """
    return 1 + sum(map(text.count, (b",", b"[", b"{")))
