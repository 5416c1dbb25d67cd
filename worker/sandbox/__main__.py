"""``python -m worker.sandbox FD``: one audit, behind walls. The only process that opens checkpoints and imports torch.

It reads a request from standard input, sets up the walls, and only then imports the libraries that read untrusted
files. Progress and the outcome go out over the pipe whose number it is given; interrupts come in over standard input,
whose end means that the worker is gone. A new audit gets a new process, so no memory, no CUDA context and no damage is
carried over.
"""

import errno
import math
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn, get_args

import structlog

from audit.errors import AuditError, Cancelled, DeadlineExceeded, Interrupted
from backdoor_audit.contract.lifecycle import Failure, FailureCode, Stage
from common.logs import configure
from worker.errors import ProtocolError
from worker.sandbox.allowed_paths import reach_of
from worker.sandbox.confinement import confine, die_with_parent
from worker.sandbox.landlock import features
from worker.sandbox.protocol import (
    REPORT_FILE,
    REPORT_FOLDER,
    Failed,
    Finished,
    LineSplitter,
    Message,
    Outcome,
    Progress,
    Reason,
    Request,
    Stopped,
    read_interrupt,
    read_request,
)

_MAX_REQUEST_BYTES: Final = 1 << 30
_PROGRESS_INTERVAL_S: Final = 0.2
_INTERRUPTS: Final[dict[Reason, type[Interrupted]]] = {"cancel": Cancelled, "deadline": DeadlineExceeded}

log = structlog.get_logger(__name__)


class ShuttingDown(Interrupted):
    """The worker is going down; the audit continues elsewhere or later."""


class Control(threading.Thread):
    """Listens to the worker."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(name="control", daemon=True)
        self.reason: Reason | None = None
        self._stream = stream
        self._splitter = LineSplitter(_MAX_REQUEST_BYTES)
        self._lines: list[bytes] = []

    def request(self) -> Request:
        """Wait for the first line; to be called before the thread starts.

        Raises:
            ProtocolError: it is not a request, or the input ended.
        """
        while not self._lines:
            chunk = self._stream.read(1 << 16)
            if not chunk:
                raise ProtocolError("the input ended before a request was read")
            self._lines = self._splitter.feed(chunk)
        return read_request(self._lines.pop(0))

    def run(self) -> None:
        """Note interrupts; end the process when the worker has closed the pipe or says what is no interrupt."""
        try:
            while True:
                for line in self._lines:
                    self.reason = read_interrupt(line).reason
                chunk = self._stream.read(1 << 16)
                if not chunk:
                    os._exit(os.EX_UNAVAILABLE)
                self._lines = self._splitter.feed(chunk)
        except ProtocolError:
            os._exit(os.EX_PROTOCOL)


class PipeSink:
    """The sink of the audit: progress goes to the worker, interrupts come up from here."""

    def __init__(self, channel: BinaryIO, control: Control) -> None:
        self._channel = channel
        self._control = control
        self._stage: Stage | None = None
        self._sent_at = -math.inf

    def progress(self, stage: Stage, fraction: float, message: str = "") -> None:
        """Send it on, a few times a second at most.

        Raises:
            audit.errors.Interrupted: the worker asked to stop.
        """
        now = time.monotonic()
        if stage != self._stage or fraction >= 1 or now - self._sent_at >= _PROGRESS_INTERVAL_S:
            self._stage, self._sent_at = stage, now
            bounded = min(max(fraction, 0.0), 1.0) if math.isfinite(fraction) else 0.0
            self.send(Progress(stage=stage, fraction=bounded, message=message[:1_000]))
        if (reason := self._control.reason) is not None:
            raise _INTERRUPTS.get(reason, ShuttingDown)(f"the worker asked to stop: {reason}")

    def send(self, message: Message) -> None:
        """Write one message, whole."""
        rest = memoryview(message.line())
        while rest:
            rest = rest[self._channel.write(rest) :]


def fence(request: Request) -> list[str]:
    """Set up the walls around this process, permanently; return the names of those that the system does not permit.

    Raises:
        OSError: the audit's folders cannot be made.
    """
    walls = confine(
        memory_bytes=request.limits.memory_bytes,
        file_bytes=request.limits.file_bytes,
        reach=reach_of(request, Path(tempfile.gettempdir())),
    )
    landlock = [name for name, known in features().items() if known]
    log.info("sandbox.confined", walls=sorted(name for name, stands in walls.items() if stands), landlock=landlock)
    return sorted(name for name, stands in walls.items() if not stands)


def carry_out(request: Request, sink: PipeSink, control: Control, missing_walls: Sequence[str]) -> Outcome:
    """Verify the folders, run the audit, write its report; every error becomes an outcome."""
    try:
        _carry_out(request, sink, missing_walls)
    except Interrupted:
        return Stopped(reason=control.reason or "shutdown")
    except Exception as error:
        return Failed(failure=failure_of(error))
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a panic of a Rust library, of no class that could be imported
            raise
        return Failed(failure=failure_of(RuntimeError("a library panicked")))
    return Finished()


def _carry_out(request: Request, sink: PipeSink, missing_walls: Sequence[str]) -> None:
    from models_store.verification.pairs import check_pair
    from models_store.verification.verify import verify_view
    from storage.folder_cache import FolderCache
    from storage.folders import ArtifactFolder

    # What the worker saw may have changed since; nothing that could be fooled is imported before.
    check_pair(*(verify_view(model.path, model.root) for model in (request.base, request.tuned)))
    from audit.retention import forget_activations
    from audit.run import run_audit

    workspace = ArtifactFolder(request.workspace)
    report = run_audit(
        request.spec,
        request.base.path,
        request.tuned.path,
        workspace=workspace,
        sink=sink,
        cache=FolderCache(request.cache, max_bytes=request.cache_bytes),
        library=request.library,
        audit_id=request.audit_id,
        base_digest=request.base.digest,
        tuned_digest=request.tuned.digest,
        base_files=request.base.files,
        tuned_files=request.tuned.files,
        device=request.device,
        device_map=request.device_map,
    )
    warnings = [*report.warnings, *request.notes]
    if missing_walls:
        warnings.append(f"this machine did not permit all walls of the sandbox; missing: {', '.join(missing_walls)}")
    report = report.model_copy(update={"warnings": tuple(warnings)})
    # A report that is there is not ours to send: the worker has checked it, and would have taken it.
    workspace.remove(REPORT_FOLDER)
    with workspace.create(REPORT_FOLDER) as folder:
        (folder / REPORT_FILE).write_text(report.model_dump_json(), encoding="utf-8")
    if not request.spec.keep_activations:
        forget_activations(workspace)


def failure_of(error: Exception) -> Failure:
    """Describe an error for the person who requested the audit.

    An unexpected error becomes ``internal``, without its own message, which may quote prompts; the log has the
    traceback's locations.
    """
    code = getattr(error, "code", None)
    if isinstance(error, AuditError) or (code in get_args(FailureCode) and hasattr(error, "message")):
        return Failure(code=code, message=str(error), hint=str(getattr(error, "hint", "")))
    if _is_out_of_memory(error):
        return Failure(
            code="out_of_memory",
            message="memory ran out while the audit ran",
            hint="use a smaller preset, fewer layers, or a machine with more memory",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(
            code="no_space",
            message="the disk ran full while the audit wrote its artifacts",
            hint="free space on the data folder's disk and submit the audit again",
        )
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    log.error("audit.broke", error=type(error).__name__, places=places)
    return Failure(
        code="internal",
        message=f"the audit failed with an unexpected {type(error).__name__}",
        hint="the worker's log says where; please report it",
    )


def _is_out_of_memory(error: Exception) -> bool:
    """torch has a class of its own for CUDA only; on a CPU it raises a RuntimeError that says so."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def main(arguments: list[str]) -> NoReturn:
    """Serve one request and end; the exit status is 0 when an outcome was sent."""
    die_with_parent()
    configure()
    channel: Any = os.fdopen(int(arguments[0]), "wb", buffering=0)
    # Libraries print; messages use another pipe, and printed text belongs in the log.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    control = Control(os.fdopen(os.dup(0), "rb", buffering=0))
    request = control.request()
    if os.getppid() != request.parent_pid:
        os._exit(os.EX_UNAVAILABLE)
    structlog.contextvars.bind_contextvars(audit_id=request.audit_id)
    sink = PipeSink(channel, control)
    try:
        try:
            missing = fence(request)
        except OSError as error:
            sink.send(Failed(failure=failure_of(error)))
        else:
            control.start()
            sink.send(carry_out(request, sink, control, missing))
    except BrokenPipeError:
        os._exit(os.EX_UNAVAILABLE)
    # Nothing here needs a clean shutdown, and the interpreter's would wait for torch's threads.
    sys.stderr.flush()
    os._exit(os.EX_OK)


if __name__ == "__main__":
    main(sys.argv[1:])
