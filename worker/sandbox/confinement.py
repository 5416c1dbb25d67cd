"""The walls that a sandbox sets up around itself before it opens anything. Linux only; most are missing elsewhere.

=====================  ================================================================================
``no_core_dumps``      RLIMIT_CORE 0
``descriptors``        RLIMIT_NOFILE: what pipes and sockets hold of the kernel's memory is in no account
``file_size``          RLIMIT_FSIZE: no file that is written grows past it
``memory``             RLIMIT_DATA: the heap ends in a MemoryError, not in the machine; seccomp refuses what it
                       does not count: shared memory without a file, files in memory, stacks that grow
``no_new_privileges``  PR_SET_NO_NEW_PRIVS: set-uid programs give nothing
``no_network``         a network namespace that holds nothing
``no_capabilities``    root is left without what makes it root, but may still read its user's files
``files``              Landlock: what may be opened (``landlock.py``)
``system_calls``       seccomp: no new processes, connections, signals to others (``seccomp.py``)
=====================  ================================================================================

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

from worker.sandbox.landlock import Reach, restrict
from worker.sandbox.seccomp import refuse_system_calls

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_CAPABILITY_VERSION: Final = 0x20080522
# Reading and writing files whatever their mode says: what root's checkpoints and data folder may depend on.
_ROOT_KEEPS: Final = 1 << 1 | 1 << 2
_MOST_THREADS: Final = 1_000
_MOST_DESCRIPTORS: Final = 4_096
"""As many as a checkpoint has shards, and some more."""
_CGROUPS: Final = Path("/sys/fs/cgroup")

log = structlog.get_logger(__name__)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def hide_memory() -> bool:
    """Close this process's memory and environment to other processes of its user, and keep them out of core dumps."""
    return _prctl(_PR_SET_DUMPABLE, 0)


def confine(*, memory_bytes: int | None, file_bytes: int | None, reach: Reach) -> dict[str, bool]:
    """Give up what an audit does not need; return which walls are up.

    ``memory_bytes`` bounds the heap (RLIMIT_DATA, so that memory-mapped files are free), ``file_bytes`` each file
    written, ``reach`` what may be opened. What the system does not permit is left out and logged: a container often
    forbids new namespaces.
    """
    _limit(resource.RLIMIT_NPROC, threads_of_user() + _MOST_THREADS)  # does not bind root, so it is no wall
    walls = {
        "descriptors": _limit(resource.RLIMIT_NOFILE, _MOST_DESCRIPTORS),
        "no_core_dumps": _limit(resource.RLIMIT_CORE, 0),
        "file_size": file_bytes is None or _limit(resource.RLIMIT_FSIZE, file_bytes),
        "memory": memory_bytes is None or _limit(resource.RLIMIT_DATA, memory_bytes),
        "no_new_privileges": _prctl(_PR_SET_NO_NEW_PRIVS, 1),
        "no_network": leave_network(),
        "no_capabilities": _drop_capabilities(),
        "files": restrict(reach),
    }
    die_with_parent()  # entering a user namespace may have cleared it
    walls["system_calls"] = refuse_system_calls(private_memory=memory_bytes is not None)
    missing = sorted(name for name, stands in walls.items() if not stands)
    if missing:
        log.warning("sandbox.weakened", missing=missing)
    return walls


def threads_of_user() -> int:
    """How many threads this user's processes have, which is what RLIMIT_NPROC counts."""
    found, own = 0, os.getuid()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines() if ":" in line)
            found += int(lines["Threads"]) if int(lines["Uid"].split()[0]) == own else 0
        except (OSError, ValueError, KeyError):
            continue  # it has ended meanwhile
    return found


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


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _drop_capabilities() -> bool:
    """Keep none; root keeps those that open its files."""
    if not sys.platform.startswith("linux"):
        return False
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    number = 0
    while _prctl(_PR_CAPBSET_DROP, number):  # only where that is permitted; without new privileges nothing comes back
        number += 1
    header = _CapabilityHeader(_CAPABILITY_VERSION, 0)
    sets = (_Capabilities * 2)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(ctypes.byref(header), sets) != 0:
        return False
    kept = sets[0].permitted & _ROOT_KEEPS if os.geteuid() == 0 else 0
    sets[0], sets[1] = _Capabilities(kept, kept, 0), _Capabilities(0, 0, 0)
    return bool(libc.capset(ctypes.byref(header), sets) == 0)


def default_memory_bytes(device: str, *, gpu_nodes: Sequence[Path] = (Path("/dev/nvidiactl"),)) -> int | None:
    """The memory limit where none is set: nine tenths of the machine's; None if a GPU's driver maps memory too."""
    if device.startswith("cuda") or (device == "auto" and any(node.exists() for node in gpu_nodes)):
        return None
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return min([pages * page, *cgroup_limits()]) * 9 // 10


def cgroup_limits(mount: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Memory limits of the control groups that this process is in, bytes: a service's and a container's among them."""
    folders = [mount, mount / "memory"]
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        top = mount if not controllers else mount / "memory"
        if not controllers or "memory" in controllers.split(","):
            below = top / path.lstrip("/")
            folders += [folder for folder in (below, *below.parents) if folder.is_relative_to(top)]
    limits: list[int] = []
    for folder in folders:
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                limits.append(int((folder / name).read_text(encoding="ascii")))
            except (OSError, ValueError):  # "max" is no limit
                continue
    return limits


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
