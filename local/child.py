"""One supervised process: how it is started, how its end is noticed, and how everything it started is cleaned up."""

import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import backdoor_audit
import local
from local.errors import ChildFailed
from local.parent_death import die_with_parent

_TAIL_LINES: Final = 15
_TAIL_BYTES: Final = 64 * 1024
_LOG_LIMIT_BYTES: Final = 50_000_000
_PIECE_BYTES: Final = 1024**2


def settings_environment(data_dir: Path, models_root: Path) -> dict[str, str]:
    """The caller's environment with our modules on the path, overridden by these settings."""
    roots = (str(Path(module.__file__).resolve().parents[1]) for module in (local, backdoor_audit) if module.__file__)
    search_path = [*roots, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return dict(os.environ) | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(search_path)),
        "BACKDOOR_AUDIT_DATA_DIR": str(data_dir),
        "BACKDOOR_AUDIT_MODELS_ROOT": str(models_root),
    }


@dataclass(frozen=True)
class Launch:
    """How one child is started and stopped. Its output is appended to ``log``."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    grace_s: float
    pass_fds: tuple[int, ...] = ()


@dataclass
class Child:
    """One supervised process across all its starts."""

    launch: Launch
    process: subprocess.Popen[bytes] | None = None
    deaths: deque[float] = field(default_factory=deque)
    start_at: float | None = None
    log_offset: int = 0

    def start(self) -> None:
        """Start the process.

        Raises:
            ChildFailed: it could not be started at all.
        """
        self.start_at = None
        self.launch.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.launch.log.open("ab") as log:
                self.log_offset = log.tell()
                self.process = subprocess.Popen(
                    list(self.launch.argv),
                    env=dict(self.launch.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=self.launch.pass_fds,
                    preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 (no threads here, one system call)
                )
        except OSError as error:
            raise ChildFailed(f"{self.launch.name} could not be started: {error.strerror}") from error

    def exit_code(self) -> int | None:
        """The exit code if the process has ended, negative for a signal; None while it runs or was never started.

        Whatever remains of an ended process's session is killed with it.
        """
        process = self.process
        if process is None:
            return None
        if process.returncode is None:
            # Inspected before it is reaped: until then, the process group's number cannot be reused.
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return None
            self.kill_group()
        return process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, if it still runs."""
        if self.process is not None:
            self.process.send_signal(number)

    def kill_group(self) -> None:
        """Kill whatever remains in the process's group."""
        if self.process is not None and self.process.returncode is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return

    def tail(self) -> str:
        """The last lines logged since the latest start."""
        try:
            with self.launch.log.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(min(self.log_offset, end), end - _TAIL_BYTES))
                lines = log.read(_TAIL_BYTES).decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:])

    def trim_log(self) -> None:
        """Keep the log bounded: beyond 50 MB its last 50 MB move to ``.1``, and the open file starts over.

        It is copied in pieces, so it is never read as a whole, whatever its size.
        """
        try:
            size = self.launch.log.stat().st_size
            if size < _LOG_LIMIT_BYTES:
                return
            with self.launch.log.open("rb") as full, self.launch.log.with_suffix(".log.1").open("wb") as kept:
                full.seek(size - _LOG_LIMIT_BYTES)
                left = _LOG_LIMIT_BYTES
                while left and (piece := full.read(min(_PIECE_BYTES, left))):
                    kept.write(piece)
                    left -= len(piece)
            os.truncate(self.launch.log, 0)  # the child appends, so it continues at the new end
        except OSError:
            return
        self.log_offset = 0

    def epitaph(self, code: int) -> str:
        """How the process ended, in words."""
        return f"{self.launch.name} {ending(code)}"

    def where(self) -> str:
        """The log's location and its last lines."""
        tail = self.tail()
        return f"its log: {self.launch.log}" + (f", which ends:\n{tail}" if tail else "")


def ending(code: int) -> str:
    """An exit code in words; negative ones are signals."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
