"""One attempt at one audit: from the claim to the fenced write that ends it. Torch-free.

::

    claimed ─▶ resolve both references ─▶ start the sandbox ─▶ follow it ─▶ settle with the ledger

How it can end, and what the ledger is told:

=================  ==============================================================
``AuditReport``    succeeded
``Failure``        failed
``CANCELLED``      cancelled: the sandbox has stopped, or was made to
``RELEASED``       the worker shuts down; back to the queue, uncounted
``ABANDONED``      the sandbox died without a word; lost at once, counted
``FORGOTTEN``      the lease is gone; nothing
=================  ==============================================================
"""

import os
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Literal, get_args

import structlog
from pydantic import ValidationError

from audit.retention import forget_activations
from backdoor_audit.contract.report import AuditReport
from backdoor_audit.contract.spec import Failure, FailureCode, Stage
from jobs.errors import AuditNotFound, LeaseLost, LedgerError, LedgerUnavailable
from jobs.ledger import Ledger
from jobs.records import Claim
from models_store.errors import StoreError
from models_store.store import Checkpoint, ModelsStore
from storage.artifacts import ArtifactFolder, ArtifactStore
from storage.errors import StorageError
from storage.locations import Artifacts
from storage.objects import ObjectArtifacts
from worker.errors import ProtocolError
from worker.lease import LeaseKeeper
from worker.publishing import Publisher, insist
from worker.sandbox.confinement import default_memory_bytes
from worker.sandbox.process import SandboxProcess
from worker.sandbox.protocol import (
    REPORT_FILE,
    REPORT_FOLDER,
    Failed,
    Finished,
    Limits,
    ModelFolder,
    Outcome,
    Progress,
    Reason,
    Request,
)
from worker.settings import WorkerSettings
from worker.shutdown import Shutdown

_TICK_S: Final = 0.25
_END_S: Final = 15.0
"""What a sandbox that has sent its outcome has for ending."""
_RETRY_S: Final = 1.0
_MAX_REPORT_BYTES: Final = 256 * 1024 * 1024

_DEADLINE: Final = Failure(
    code="deadline_exceeded",
    message="the audit ran longer than its deadline",
    hint="raise deadline_s, or choose a smaller preset",
)

_log = structlog.get_logger()


class End(Enum):
    """The ends that carry nothing with them."""

    CANCELLED = auto()
    RELEASED = auto()
    ABANDONED = auto()
    FORGOTTEN = auto()


Ending = AuditReport | Failure | End


@dataclass(frozen=True)
class Surroundings:
    """What every attempt of this worker shares."""

    settings: WorkerSettings
    ledger: Ledger
    models: ModelsStore
    artifacts: ArtifactStore
    shutdown: Shutdown
    published: ObjectArtifacts | None = None
    """Where artifacts are kept in the end; None where that is the folder that audits are worked on in."""


class Attempt:
    """Carries one claim to its end."""

    def __init__(self, surroundings: Surroundings, claim: Claim) -> None:
        self._around = surroundings
        self._claim = claim
        self._workspace: ArtifactFolder = surroundings.artifacts.folder(claim.audit_id)
        self._lease = LeaseKeeper(surroundings.ledger, claim, heartbeat_s=surroundings.settings.heartbeat_s)
        self._publisher = None if surroundings.published is None else self._publisher_to(surroundings.published)

    def run(self) -> Ending:
        """Do the work and tell the ledger how it ended; return what it was told."""
        self._lease.start()
        try:
            ending = self._persist("fetch") or self._work()
            if isinstance(ending, AuditReport):
                ending = self._persist("publish") or ending
            told = self._settle(ending)
        finally:
            self._lease.stop()
        if self._is_of_no_use(ending, told=told):
            self._drop_artifacts()
        elif self._publisher is not None and told and isinstance(ending, AuditReport):
            self._drop(self._around.artifacts)
        return ending

    def _work(self) -> Ending:
        if (report := self._read_report()) is not None:
            # An earlier attempt wrote it and died before it could say so, or before it had tidied up.
            self._forget_activations()
            return report
        models = self._resolve()
        if isinstance(models, Failure | End):
            return models
        with SandboxProcess(self._request(*models)) as sandbox, self._publishing():
            _log.info("sandbox_running", pid=sandbox.pid)
            try:
                outcome = self._follow(sandbox)
            except ProtocolError as error:
                _log.error("sandbox_babbles", error=str(error))
                return Failure(code="internal", message="the audit's process said what it should not")
            if isinstance(outcome, Finished | Failed):
                sandbox.wait(_END_S)
        return self._ending(outcome)

    # Resolve

    def _resolve(self) -> tuple[Checkpoint, Checkpoint] | Failure | End:
        """Look both references up; in a thread, since hashing and downloads take long and can't be interrupted."""
        found: list[tuple[Checkpoint, Checkpoint] | Failure] = []

        def resolve() -> None:
            models, spec = self._around.models, self._claim.spec
            try:
                pair = models.resolve(spec.base_model), models.resolve(spec.fine_tuned)
                models.check_pair(*pair)
                found.append(pair)
            except StoreError as error:
                found.append(_store_failure(error))
            except Exception as error:
                _log.exception("resolve_broke")
                found.append(Failure(code="internal", message=f"the models could not be read: {type(error).__name__}"))

        self._lease.report(Progress(stage="resolve", fraction=0))
        thread = threading.Thread(target=resolve, name="resolve", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_TICK_S)
            if thread.is_alive() and (reason := self._why_stop()) is not None:
                return self._stopped(reason)
        self._lease.report(Progress(stage="resolve", fraction=1))
        return found[0]

    def _request(self, base: Checkpoint, tuned: Checkpoint) -> Request:
        settings = self._around.settings
        return Request(
            audit_id=self._claim.audit_id,
            spec=self._claim.spec,
            library=self._claim.library,
            base=ModelFolder(path=base.path, root=base.root, digest=base.digest),
            tuned=ModelFolder(path=tuned.path, root=tuned.root, digest=tuned.digest),
            workspace=self._workspace.root,
            cache=settings.cache_dir,
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

    def _follow(self, sandbox: SandboxProcess) -> Outcome | End | Failure:
        """Pass progress on, and interrupts the other way, until the sandbox has said how it ended.

        Raises:
            ProtocolError: it said something that is no message.
        """
        asked: Reason | None = None
        patience = 0.0
        while True:
            for message in sandbox.messages(_TICK_S):
                if not isinstance(message, Progress):
                    return message
                self._lease.report(message)
            if sandbox.silent:
                _log.warning("sandbox_lost", status=sandbox.wait(_END_S))
                return End.ABANDONED if asked is None else self._stopped(asked)
            if self._lease.lost:
                return End.FORGOTTEN
            reason = self._why_stop()
            if reason is not None and asked is None:
                asked = reason
                patience = time.monotonic() + self._around.settings.interrupt_grace_s
                sandbox.interrupt(reason)
            if asked is not None and (time.monotonic() >= patience or self._out_of_time()):
                _log.warning("sandbox_killed", reason=asked)
                return self._stopped(asked)

    def _why_stop(self) -> Reason | None:
        if self._lease.cancel_requested:
            return "cancel"
        if self._lease.overdue:
            return "deadline"
        return "shutdown" if self._around.shutdown.requested else None

    def _out_of_time(self) -> bool:
        return self._around.shutdown.is_over(self._around.settings.shutdown_grace_s)

    # Settle

    def _ending(self, outcome: Outcome | End | Failure) -> Ending:
        if isinstance(outcome, End | Failure):
            return outcome
        if isinstance(outcome, Failed):
            return outcome.failure
        if isinstance(outcome, Finished):
            report = self._read_report()
            return report or Failure(code="internal", message="the audit ended without a readable report")
        return self._stopped(outcome.reason)

    def _stopped(self, reason: Reason) -> End | Failure:
        if self._lease.lost:
            return End.FORGOTTEN
        if reason == "cancel":
            return End.CANCELLED
        return _DEADLINE if reason == "deadline" else End.RELEASED

    def _settle(self, ending: Ending) -> bool:
        """Write the end into the ledger, waiting for one that is away; return whether that was done.

        It is not where another attempt has the audit, nor where the worker must go before the ledger is back.
        """
        _log.info("attempt_ended", ending=ending.name if isinstance(ending, End) else type(ending).__name__)
        while ending is not End.FORGOTTEN:
            try:
                self._tell(ending)
                return True
            except LeaseLost:
                _log.warning("attempt_was_fenced_out")
                return False
            except LedgerUnavailable:
                if self._out_of_time():
                    return False
                time.sleep(_RETRY_S)
        return False

    def _tell(self, ending: Ending) -> None:
        ledger, claim = self._around.ledger, self._claim
        if isinstance(ending, AuditReport):
            ledger.succeed(claim, ending)
        elif isinstance(ending, Failure):
            ledger.fail(claim, ending)
        elif ending is End.CANCELLED:
            ledger.cancelled(claim)
        elif ending is End.RELEASED:
            ledger.release(claim)
        elif ending is End.ABANDONED:
            ledger.lose(claim, "the audit's process died")

    # Artifacts

    def _read_report(self) -> AuditReport | None:
        """The report that the sandbox wrote, read as what it is: a stranger's file."""
        folder = self._workspace.find(REPORT_FOLDER)
        if folder is None:
            return None
        path = folder / REPORT_FILE
        try:
            if path.stat().st_size > _MAX_REPORT_BYTES:
                raise ValueError("the report is too large")
            report = AuditReport.model_validate_json(path.read_bytes())
            if report.audit_id != self._claim.audit_id:
                raise ValueError("the report is another audit's")
        except (OSError, ValueError, ValidationError) as error:
            _log.error("report_unreadable", error=type(error).__name__)
            return None
        return report

    def _publisher_to(self, store: ObjectArtifacts) -> Publisher:
        return Publisher(
            store,
            self._claim.audit_id,
            self._workspace,
            keep_activations=self._claim.spec.keep_activations,
            wanted=lambda: not self._lease.lost and self._why_stop() is None,
        )

    def _publishing(self) -> AbstractContextManager[None]:
        return nullcontext() if self._publisher is None else self._publisher.running()

    def _persist(self, what: Literal["fetch", "publish"]) -> Failure | End | None:
        """Fetch or publish artifacts, waiting for a store that is away; None when it is done, or there is no store."""
        if self._publisher is None:
            return None
        action = self._publisher.fetch if what == "fetch" else self._publisher.publish
        stage: Stage
        stage, fraction = ("resolve", 0) if what == "fetch" else ("report", 1)

        def waiting(message: str) -> None:
            self._lease.report(Progress(stage=stage, fraction=fraction, message=message))

        stopped = insist(action, self._why_leave, waiting)
        return stopped if stopped is None or isinstance(stopped, Failure) else self._stopped(stopped)

    def _why_leave(self) -> Reason | None:
        # One that has lost its lease has no reason of its own to stop; any will do.
        return "shutdown" if self._lease.lost else self._why_stop()

    def _forget_activations(self) -> None:
        if self._claim.spec.keep_activations:
            return
        try:
            forget_activations(self._workspace)
        except OSError as error:
            _log.warning("activations_left", error=type(error).__name__)

    def _is_of_no_use(self, ending: Ending, *, told: bool) -> bool:
        """Whether nobody will read what this attempt wrote: the audit has no report and never will, or is deleted."""
        if told:
            return ending is End.CANCELLED or isinstance(ending, Failure)
        try:
            record = self._around.ledger.get(self._claim.audit_id)
        except AuditNotFound:
            return True
        except LedgerError:
            return False
        return record.status in ("failed", "cancelled")

    def _drop_artifacts(self) -> None:
        """What an audit without a report leaves is of use to nobody, and may be gigabytes."""
        self._drop(self._around.artifacts)
        if self._around.published is not None:
            self._drop(self._around.published)

    def _drop(self, artifacts: Artifacts) -> None:
        try:
            artifacts.delete(self._claim.audit_id)
        except (OSError, StorageError) as error:
            _log.warning("artifacts_left", error=type(error).__name__)  # the sweep finds them


def _store_failure(error: StoreError) -> Failure:
    known = get_args(FailureCode)
    return Failure(
        code=error.code if error.code in known else "internal",
        message=error.message,
        hint=error.hint,
    )
