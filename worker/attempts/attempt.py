"""One attempt at one audit: from the claim to the fenced write that ends it. Torch-free.

::

    claimed ─▶ resolve both references ─▶ start the sandbox ─▶ follow it ─▶ settle with the ledger

``worker.attempts.endings`` lists how it can end.
"""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import structlog

from backdoor_audit.contract.lifecycle import Failure, FailureCode
from backdoor_audit.contract.report.audit_report import AuditReport
from jobs.errors import AuditNotFound, LeaseLost, LedgerError, LedgerUnavailable
from jobs.records import Claim
from models_store.checkpoint import Checkpoint
from models_store.errors import StoreError
from models_store.view import CheckpointView, view_notes
from storage.trees import remove_tree
from worker.attempts.artifacts import AttemptArtifacts
from worker.attempts.caches import cache_of, make_room
from worker.attempts.context import WorkerContext
from worker.attempts.endings import DEADLINE_PASSED, End, Ending, name_of, tell
from worker.attempts.lease import LeaseKeeper
from worker.errors import ProtocolError
from worker.sandbox.confinement import default_memory_bytes
from worker.sandbox.left_over import end_left_over
from worker.sandbox.process import SandboxProcess
from worker.sandbox.protocol import Failed, Finished, Limits, ModelFolder, Progress, Reason, Request, Stopped

_TICK_S: Final = 0.25
_END_S: Final = 15.0
"""How long a sandbox may take to exit after sending its outcome."""
_RETRY_S: Final = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Models:
    """Both checkpoints as the sandbox will open them, and what the report must say about them."""

    base: ModelFolder
    tuned: ModelFolder
    notes: tuple[str, ...]
    read: tuple[Checkpoint, Checkpoint]
    """As the worker read them."""


class Attempt:
    """Carries one claim through to its end."""

    def __init__(self, context: WorkerContext, claim: Claim) -> None:
        self._context = context
        self._claim = claim
        self._lease = LeaseKeeper(context.ledger, claim, heartbeat_s=context.settings.heartbeat_s)
        self._artifacts = AttemptArtifacts(context, claim, why_stop=self._why_leave, report_progress=self._lease.report)

    def run(self) -> Ending:
        """Do the work and record its ending in the ledger; return that ending."""
        self._lease.start()
        try:
            ending = self._clear() or self._fetch() or self._work()
            if isinstance(ending, AuditReport):
                ending = self._publish() or ending
            told = self._settle(ending)
        finally:
            self._lease.stop()
        if self._is_of_no_use(ending, told=told):
            self._artifacts.drop()
        elif told and isinstance(ending, AuditReport):
            self._artifacts.drop_working_copy()
        return ending

    def _clear(self) -> Failure | End | None:
        """End what an earlier attempt left running in the audit's folder; nothing else is touched before that."""
        records, audit_id = self._context.settings.sandbox_records, self._claim.audit_id
        orphans = self._context.orphans
        while not (
            end_left_over(records, audit_id, timeout_s=_RETRY_S)
            and (orphans is None or orphans.end(timeout_s=_RETRY_S))
        ):
            if (reason := self._why_leave()) is not None:
                return self._stopped(reason)
        return None

    def _fetch(self) -> Failure | End | None:
        return self._stop_ending(self._artifacts.persist("fetch"))

    def _publish(self) -> Failure | End | None:
        return self._stop_ending(self._artifacts.persist("publish"))

    def _stop_ending(self, stopped: Failure | Reason | None) -> Failure | End | None:
        return stopped if stopped is None or isinstance(stopped, Failure) else self._stopped(stopped)

    def _work(self) -> Ending:
        with _scratch() as views:
            models = self._resolve(views)
            if isinstance(models, Failure | End):
                return models
            report = self._artifacts.read_report((models.base.digest, models.tuned.digest), notes=models.notes)
            if report is not None:
                # An earlier attempt wrote it, but died before it could report it or clean up.
                self._artifacts.forget_activations()
                return report
            return self._of_what_was_read(models, self._run_sandbox(self._request(models)))

    def _of_what_was_read(self, models: _Models, ending: Ending) -> Ending:
        """A report tells of the files that the worker read. Whoever may write to them could have swapped them since."""
        if isinstance(ending, AuditReport):
            try:
                for checkpoint in models.read:
                    checkpoint.check_unchanged()
            except StoreError as error:
                return _store_failure(error)
        return ending

    def _run_sandbox(self, request: Request) -> Ending:
        records, started = self._context.settings.sandbox_records, time.monotonic()
        with SandboxProcess(request, records=records) as sandbox, self._artifacts.publishing():
            log.info("sandbox.launched", pid=sandbox.pid)
            try:
                outcome = self._follow(sandbox)
            except ProtocolError as error:
                log.error("protocol.broken", error=str(error))
                return Failure(code="internal", message="the audit's process broke the protocol")
            if isinstance(outcome, Finished | Failed):
                sandbox.wait(_END_S)
        self._artifacts.sweep()
        if isinstance(outcome, Finished):
            digests = (request.base.digest, request.tuned.digest)
            report = self._artifacts.read_report(digests, notes=request.notes, within_s=time.monotonic() - started)
            return report or Failure(code="internal", message="the audit ended without a readable report")
        return outcome.failure if isinstance(outcome, Failed) else outcome

    # Resolve

    def _resolve(self, views: Path) -> _Models | Failure | End:
        """Resolve both references, and write what the sandbox will open of them.

        In a thread, since hashing and downloads take long and can't be interrupted.
        """
        results: list[_Models | Failure] = []

        def resolve() -> None:
            models, spec = self._context.models, self._claim.spec
            try:
                base, tuned = models.resolve(spec.base_model), models.resolve(spec.fine_tuned)
                notes = models.check_pair(base, tuned)
                first, second = models.view(base, views / "base"), models.view(tuned, views / "tuned")
                notes = (*notes, *view_notes("base model", first), *view_notes("fine-tuned model", second))
                results.append(_Models(_folder(base, first), _folder(tuned, second), notes, (base, tuned)))
            except StoreError as error:
                results.append(_store_failure(error))
            except Exception as error:
                log.exception("resolve.failed")
                results.append(
                    Failure(code="internal", message=f"the models could not be read: {type(error).__name__}")
                )

        self._lease.report(Progress(stage="resolve", fraction=0))
        thread = threading.Thread(target=resolve, name="resolve", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_TICK_S)
            if thread.is_alive() and (reason := self._why_stop()) is not None:
                return self._stopped(reason)
        self._lease.report(Progress(stage="resolve", fraction=1))
        return results[0]

    def _request(self, models: _Models) -> Request:
        settings = self._context.settings
        cache = cache_of(settings.cache_dir, self._claim.owner)
        make_room(settings.cache_dir, cache, settings.cache_bytes)
        return Request(
            audit_id=self._claim.audit_id,
            spec=self._claim.spec,
            library=self._claim.library,
            base=models.base,
            tuned=models.tuned,
            notes=models.notes,
            workspace=self._artifacts.folder.root,
            cache=cache,
            cache_bytes=settings.cache_bytes,
            device=settings.device,
            device_map=settings.device_map,
            limits=Limits(
                memory_bytes=settings.sandbox_memory_bytes or default_memory_bytes(settings.device),
                file_bytes=settings.sandbox_file_bytes,
            ),
            parent_pid=os.getpid(),
        )

    # Follow

    def _follow(self, sandbox: SandboxProcess) -> Finished | Failed | End | Failure:
        """Pass progress one way and interrupts the other, until the sandbox has reported how it ended.

        The worker decides why it stopped. A sandbox that stops without being asked is lost, and counted.

        Raises:
            ProtocolError: it sent something that is not a message.
        """
        asked: Reason | None = None
        patience = 0.0
        while True:
            for message in sandbox.messages(_TICK_S):
                if isinstance(message, Stopped):
                    if asked is None:
                        log.warning("sandbox.lost", reason="it stopped without being asked", said=message.reason)
                    return End.ABANDONED if asked is None else self._stopped(asked)
                if not isinstance(message, Progress):
                    return message
                self._lease.report(message)
            if sandbox.silent:
                log.warning("sandbox.lost", status=sandbox.wait(_END_S))
                return End.ABANDONED if asked is None else self._stopped(asked)
            if self._lease.lost:
                return End.FORGOTTEN
            reason = self._why_stop()
            if reason is not None and asked is None:
                asked = reason
                patience = time.monotonic() + self._context.settings.interrupt_grace_s
                sandbox.interrupt(reason)
            if asked is not None and (time.monotonic() >= patience or self._out_of_time()):
                log.warning("sandbox.killed", reason=asked)
                return self._stopped(asked)

    def _why_stop(self) -> Reason | None:
        if self._lease.cancel_requested:
            return "cancel"
        if self._lease.overdue:
            return "deadline"
        return "shutdown" if self._context.shutdown.requested else None

    def _out_of_time(self) -> bool:
        return self._context.shutdown.is_over(self._context.settings.shutdown_grace_s)

    # Settle

    def _stopped(self, reason: Reason) -> End | Failure:
        if self._lease.lost:
            return End.FORGOTTEN
        if reason == "cancel":
            return End.CANCELLED
        return DEADLINE_PASSED if reason == "deadline" else End.RELEASED

    def _settle(self, ending: Ending) -> bool:
        """Record the ending in the ledger, waiting if it is down; return whether that was done.

        It is not done if another attempt has the audit, or if the worker must go before the ledger is back.
        """
        log.info("attempt.ended", ending=name_of(ending))
        while ending is not End.FORGOTTEN:
            try:
                tell(self._context.ledger, self._claim, ending)
                return True
            except LeaseLost:
                log.warning("attempt.fenced")
                return False
            except LedgerUnavailable:
                if self._out_of_time():
                    return False
                time.sleep(_RETRY_S)
        return False

    def _why_leave(self) -> Reason | None:
        # An attempt that has lost its lease has no reason of its own to stop, so any will do.
        return "shutdown" if self._lease.lost else self._why_stop()

    def _is_of_no_use(self, ending: Ending, *, told: bool) -> bool:
        """Whether what this attempt wrote will never be read: the audit has no report and never will, or is deleted."""
        if told:
            return ending is End.CANCELLED or isinstance(ending, Failure)
        try:
            record = self._context.ledger.get(self._claim.audit_id)
        except AuditNotFound:
            return True
        except LedgerError:
            return False
        return record.status in ("failed", "cancelled")


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for views. Where the fence lacks walls, a sandbox may have put anything into it."""
    folder = Path(tempfile.mkdtemp(prefix="backdoor-audit-views-"))
    try:
        yield folder
    finally:
        remove_tree(folder)


def _folder(checkpoint: Checkpoint, view: CheckpointView) -> ModelFolder:
    return ModelFolder(path=view.folder, root=view.root, digest=checkpoint.digest, files=checkpoint.files)


def _store_failure(error: StoreError) -> Failure:
    known = get_args(FailureCode)
    return Failure(
        code=error.code if error.code in known else "internal",
        message=error.message,
        hint=error.hint,
    )
