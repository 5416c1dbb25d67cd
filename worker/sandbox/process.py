"""The sandbox as its worker sees it: a process to start, listen to, interrupt and, if need be, kill. Torch-free."""

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

import backdoor_audit
from storage.trees import remove_tree
from worker.sandbox.left_over import write_down
from worker.sandbox.output import Output
from worker.sandbox.protocol import FromSandbox, Interrupt, LineSplitter, Reason, Request, read_message

_PASSED_ON: Final = (
    "PATH",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
)
_SOURCE_ROOT: Final = Path(__file__).resolve().parents[2]
_CLIENT_ROOT: Final = Path(backdoor_audit.__file__).resolve().parents[1]

log = structlog.get_logger(__name__)


def sandbox_environment(scratch: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a sandbox: what the libraries need to run offline, and no secret of the worker's."""
    passed = {name: environment[name] for name in _PASSED_ON if name in environment}
    return passed | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HOME": str(scratch),
        "HF_HOME": str(scratch / "huggingface"),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join((str(_SOURCE_ROOT), str(_CLIENT_ROOT))),
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }


class SandboxProcess:
    """One running sandbox.

    It is started in a session of its own, so that a Ctrl-C at the terminal reaches the worker alone, which then asks
    the sandbox to stop. It must be started from a thread that lives as long as the worker: the kernel kills it when
    that thread ends.
    """

    def __init__(self, request: Request, *, records: Path | None = None) -> None:
        """Start a sandbox and hand it ``request``; it is written down in the folder ``records`` while it runs.

        Raises:
            OSError: it could not be started, or not written down.
        """
        self._scratch = Path(tempfile.mkdtemp(prefix="backdoor-audit-"))
        reading, writing = os.pipe()
        printed, printing = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "worker.sandbox", str(writing)],
                stdin=subprocess.PIPE,
                stdout=printing,
                stderr=printing,
                cwd=self._scratch,
                env=sandbox_environment(self._scratch, os.environ),
                pass_fds=(writing,),
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            os.close(printed)
            remove_tree(self._scratch)
            raise
        finally:
            os.close(writing)
            os.close(printing)
        self._output = Output(printed)
        self._output.start()
        self._reading = reading
        self._splitter = LineSplitter()
        self.silent = False
        """Whether the sandbox has closed its pipe and will send nothing more."""
        self._record: Path | None = None
        try:
            if records is not None:
                self._record = write_down(records, request.audit_id, self.pid)
        except BaseException:
            self.close()
            raise
        self._tell(request.line())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def messages(self, timeout_s: float) -> list[FromSandbox]:
        """Return the messages of the sandbox, waiting up to ``timeout_s`` for the first; empty if there is none.

        Raises:
            ProtocolError: it sent something else.
        """
        if self.silent or not select.select([self._reading], [], [], timeout_s)[0]:
            return []
        chunk = os.read(self._reading, 1 << 16)
        if not chunk:
            self.silent = True
            return []
        return [read_message(line) for line in self._splitter.feed(chunk)]

    def interrupt(self, reason: Reason) -> None:
        """Ask the sandbox to stop at its next progress report."""
        self._tell(Interrupt(reason=reason).line())

    def kill(self) -> None:
        """End the sandbox and all that it has started, at once."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        except PermissionError:
            self._process.kill()

    def wait(self, timeout_s: float) -> int:
        """Return the exit status, negative for a signal; a sandbox that has not ended after ``timeout_s`` is killed."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            log.warning("sandbox.killed", reason="it did not end in time")
            self.kill()
            return self._process.wait()

    def close(self) -> None:
        """Kill what still runs and give everything back."""
        if self._process.poll() is None:
            self.kill()
            self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._output.finish()
        os.close(self._reading)
        remove_tree(self._scratch)
        if self._record is not None:
            self._record.unlink(missing_ok=True)

    def _tell(self, line: bytes) -> None:
        """Write to the sandbox; one that is dead or does not listen is found out elsewhere."""
        stream = self._process.stdin
        if stream is None:
            return
        with suppress(BrokenPipeError):
            stream.write(line)
            stream.flush()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
