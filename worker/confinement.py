"""The walls that a sandbox puts around itself before it opens anything. Linux; elsewhere most of them are missing.

To be called while the process has one thread and before torch is imported: a namespace can't be left by a process with
threads, and limits bind what comes after them.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000

_log = structlog.get_logger()


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def confine(*, memory_bytes: int | None, file_bytes: int | None) -> dict[str, bool]:
    """Give up what an audit does not need; return which walls stand.

    ``memory_bytes`` bounds the heap (RLIMIT_DATA, so that memory-mapped files are free), ``file_bytes`` each file
    written. What the system does not permit is left out and logged: a container often forbids new namespaces.
    """
    walls = {
        "no_core_dumps": _limit(resource.RLIMIT_CORE, 0),
        "file_size": file_bytes is None or _limit(resource.RLIMIT_FSIZE, file_bytes),
        "memory": memory_bytes is None or _limit(resource.RLIMIT_DATA, memory_bytes),
        "no_new_privileges": _prctl(_PR_SET_NO_NEW_PRIVS, 1),
        "no_network": leave_network(),
    }
    missing = sorted(name for name, stands in walls.items() if not stands)
    if missing:
        _log.warning("sandbox_walls_missing", missing=missing)
    return walls


def leave_network() -> bool:
    """Move to a network namespace of our own, which holds nothing; return whether that was permitted.

    A child tries it first: a user namespace that was entered but could not be set up would leave this process unable
    to write files.
    """
    if not sys.platform.startswith("linux"):
        return False
    for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET):
        child = os.fork()
        if child == 0:
            os._exit(0 if _enter_namespaces(flags) else 1)
        if os.waitpid(child, 0)[1] == 0:
            return _enter_namespaces(flags)
    return False


def _enter_namespaces(flags: int) -> bool:
    uid, gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(flags) != 0:
        return False
    if not flags & _CLONE_NEWUSER:
        return True
    # Without a mapping this process could not create files any more: their owner would have no number in here.
    own = Path("/proc/self")
    try:
        (own / "setgroups").write_text("deny")
        (own / "uid_map").write_text(f"{uid} {uid} 1")
        (own / "gid_map").write_text(f"{gid} {gid} 1")
    except OSError:
        return False
    return True


def default_memory_bytes(device: str, *, gpu_nodes: Sequence[Path] = (Path("/dev/nvidiactl"),)) -> int | None:
    """The memory limit where none is set: nine tenths of the machine's; None where a GPU's driver maps memory too."""
    if device.startswith("cuda") or (device == "auto" and any(node.exists() for node in gpu_nodes)):
        return None
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    total = pages * page
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            total = min(total, int(limit.read_text()))
        except (OSError, ValueError):
            continue
    return total * 9 // 10


def _limit(which: int, value: int) -> bool:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    try:
        resource.setrlimit(which, (value, value))
    except (OSError, ValueError):
        return False
    return True


def _prctl(option: int, argument: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) == 0)
