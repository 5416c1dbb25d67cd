"""What an earlier attempt left running. A sandbox is trusted neither to die with its worker nor to hold a lock.

Each sandbox is written down before it gets its request, in a folder that no sandbox can open: its process id and start
time, and its worker's, in a file named by the audit. Whoever has claimed that audit ends what it finds there before it
touches the audit's folder, so that two sandboxes never write to it. A record of another machine (a shared disk) says
nothing here; a process id that has been given to somebody else has another start time. Linux; elsewhere nothing is
written down.
"""

import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from worker.sandbox.orphans import children_of, descendants_of

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_START_TIME: Final = 19
"""Place of the start time in ``/proc/PID/stat``, counted after the name, which may hold anything (proc(5): 22)."""

_ROUNDS: Final = 100

log = structlog.get_logger(__name__)


class _Process(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str
    pid: int
    started: int

    @property
    def runs(self) -> bool:
        """Whether it is still there; one that has ended and waits for its parent is not."""
        return self.machine == _machine() and _started(self.pid) == self.started


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sandbox: _Process
    worker: _Process


def write_down(folder: Path, audit_id: str, pid: int) -> Path | None:
    """Note a sandbox that this process has just started; return the record, to be removed once it has ended.

    Raises:
        OSError: it cannot be written.
    """
    sandbox, worker = _process(pid), _process(os.getpid())
    if sandbox is None or worker is None:
        return None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{audit_id}.{sandbox.pid}.{sandbox.started}"
    path.write_text(_Record(sandbox=sandbox, worker=worker).model_dump_json(), encoding="utf-8")
    return path


def end_left_over(folder: Path, audit_id: str, *, timeout_s: float) -> bool:
    """End the sandboxes that earlier attempts at an audit left; return whether none runs any more."""
    return _end(folder, f"{audit_id}.*", timeout_s=timeout_s, of_living_workers=True)


def end_orphans(folder: Path, *, timeout_s: float) -> bool:
    """End the sandboxes of any audit whose workers are gone; return whether none runs any more."""
    return _end(folder, "*.*", timeout_s=timeout_s, of_living_workers=False)


def _end(folder: Path, records: str, *, timeout_s: float, of_living_workers: bool) -> bool:
    ended = True
    for path in list(folder.glob(records)):
        try:
            record = _Record.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue  # removed meanwhile, or cut off by a crash, in which case the sandbox never got its request
        if record.sandbox.machine != _machine() or (record.worker.runs and not of_living_workers):
            continue
        if _ended(record.sandbox, timeout_s):
            _kill_adopted(record.worker, folder)
            path.unlink(missing_ok=True)
        else:
            ended = False
    return ended


def _kill_adopted(worker: _Process, folder: Path) -> None:
    """Kill what a worker that stands still was given by its sandbox: its children that are written down nowhere."""
    if not worker.runs or worker.pid == os.getpid():
        return  # a worker ends its own
    known = {int(pid) for pid in (path.name.split(".")[1] for path in folder.glob("*.*.*")) if pid.isdecimal()}
    for pid in children_of(worker.pid) - known:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _ended(sandbox: _Process, timeout_s: float) -> bool:
    try:
        descriptor = os.pidfd_open(sandbox.pid)
    except OSError:
        return not sandbox.runs
    try:
        if not sandbox.runs:
            return True
        log.warning("sandbox.killed", pid=sandbox.pid, reason="an earlier attempt left it running")
        _kill_below(sandbox.pid)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(sandbox.pid, signal.SIGKILL)  # it leads a group of its own
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


def _kill_below(pid: int) -> None:
    """Kill the processes below one, which may start more meanwhile."""
    for _ in range(_ROUNDS):
        if not (below := {one for one in descendants_of(pid) if _started(one) is not None}):
            return
        for one in below:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)


def _process(pid: int) -> _Process | None:
    started = _started(pid)
    return None if started is None else _Process(machine=_machine(), pid=pid, started=started)


def _started(pid: int) -> int | None:
    try:
        state, *rest = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
        return None if state in "ZX" else int(rest[_START_TIME - 1])
    except (OSError, ValueError, IndexError):
        return None


def _machine() -> str:
    """What process ids belong to: one start of one machine, and a namespace of it."""
    try:
        return f"{_BOOT.read_text(encoding='ascii').strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
