"""Processes whose parents have ended. The kernel gives them to the nearest ancestor that has asked for them.

A process of a sandbox that forked twice, left its session and cleared its death signal is in no group, session or tree
of that sandbox any more. A worker asks for such processes, and so does ``serve`` for those of a worker that was killed;
whatever it was given, it ends. Linux; elsewhere nothing is given to anybody.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

_PR_SET_CHILD_SUBREAPER: Final = 36
_PARENT: Final = 1
"""Place of the parent's id in ``/proc/PID/stat``, counted after the name, which may hold anything (proc(5): 4)."""
_PAUSE_S: Final = 0.01

log = structlog.get_logger(__name__)


class Orphans:
    """What this process is given from now on. Its own children are none, if it names them.

    ``adopt`` is to be called once, by an entry point: it is a property of the process.
    """

    def __init__(self) -> None:
        self._before = children_of(os.getpid())

    @classmethod
    def adopt(cls) -> "Orphans":
        """Ask the kernel for orphans."""
        if sys.platform.startswith("linux"):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        return cls()

    def end(self, own: Collection[int] = (), *, timeout_s: float) -> bool:
        """Kill all children but ``own`` and those of before, and what they leave; return whether none is left."""
        give_up_at = time.monotonic() + timeout_s
        while given := children_of(os.getpid()) - self._before - set(own):
            for pid in given:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                with suppress(ChildProcessError):
                    if os.waitpid(pid, os.WNOHANG)[0]:
                        log.warning("orphan.killed", pid=pid)
            if time.monotonic() >= give_up_at:
                return not (children_of(os.getpid()) - self._before - set(own))
            time.sleep(_PAUSE_S)
        return True


def children_of(parent: int) -> set[int]:
    """Ids of the processes whose parent this is, also of those that have ended and wait for it."""
    found: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            fields = status.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[_PARENT]) == parent:
                found.add(int(status.parent.name))
    return found


def descendants_of(ancestor: int) -> set[int]:
    """Ids of the processes below one, at any depth."""
    found: set[int] = set()
    pending = [ancestor]
    while pending:
        below = children_of(pending.pop()) - found
        found |= below
        pending += below
    return found
