"""Code as it would run if a checkpoint had taken the sandbox over: it tries each way out and says how that went.

``python planted.py REQUEST ATTEMPTS MODE``: puts up the fence of the request (or not), then prints one JSON object:
which walls are missing, and for each attempt ``done`` or the name of the error. Modes are ``fenced``; ``open``, without
any wall; ``oldest``, the fence of a kernel that has only the first version of Landlock (no scopes, no truncation, no
network, no control of devices); and the fences of systems that lack something: ``no-namespaces``, ``no-landlock``,
``no-seccomp``.
"""

import ctypes
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.sandbox import confinement, landlock
from worker.sandbox.__main__ import fence
from worker.sandbox.protocol import read_request

_PTRACE_SEIZE = 0x4206
_PR_SET_PDEATHSIG = 1
_F_SETOWN_EX = 15
_F_OWNER_PID = 1
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_MAP_GROWSDOWN = 0x100
_KCMP, _IOPRIO_SET, _IO_SETUP, _IO_DESTROY, _FANOTIFY_INIT = {
    "x86_64": (312, 251, 206, 207, 300), "aarch64": (272, 30, 0, 1, 262),
}.get(os.uname().machine, (-1,) * 5)  # fmt: skip
_FAN_REPORT_FID = 0x200
_SYSLOG_SIZE_BUFFER = 10


def attempts(given: dict[str, Any], workspace: Path, checkpoint: Path) -> dict[str, Callable[[], object]]:
    """Every way out by name; ``given`` holds what the test has laid out."""
    secret, parent, bystander = Path(given["secret"]), os.getppid(), given["bystander"]
    emptied = secret.parent / "emptied"

    def connect(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> None:
        with socket.socket(family, kind) as stream:
            stream.settimeout(5)
            stream.connect(address)

    def datagram() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", tuple(given["udp"]))

    def run_setuid() -> None:
        subprocess.run([given["setuid"], "--help"], capture_output=True, check=False, timeout=20)

    def outlive() -> None:
        child = os.fork()
        if child == 0:
            os.setsid()
            os._exit(0)
        os.waitpid(child, 0)

    def libc(name: str, *arguments: Any) -> int:
        """Call the C library; its errors are raised."""
        answer = int(getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments))
        if answer < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return answer

    def attach() -> None:
        libc("ptrace", _PTRACE_SEIZE, bystander, None, None)

    def on_a_socket(command: Callable[[int], object]) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command(ours.fileno())

    def on_a_checkpoint(command: Callable[[int], object]) -> None:
        descriptor = os.open(checkpoint / "config.json", os.O_RDONLY)
        try:
            command(descriptor)
        finally:
            os.close(descriptor)

    def be_told_of_changes() -> None:
        descriptor = os.open(workspace, os.O_RDONLY)
        try:
            fcntl.fcntl(descriptor, fcntl.F_NOTIFY, fcntl.DN_CREATE)
        finally:
            os.close(descriptor)

    def set_flags(descriptor: int) -> None:
        flags = fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, bytes(8))
        fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, flags)

    def watch() -> None:
        descriptor = libc("inotify_init")
        try:
            libc("inotify_add_watch", descriptor, str(secret.parent).encode(), 0xFFF)
        finally:
            os.close(descriptor)

    def set_times_of_the_checkpoint() -> None:
        on_a_checkpoint(lambda file: os.utime(file, (1, 1)))

    def queue_for_the_disk() -> None:
        place = ctypes.c_ulong(0)
        libc("syscall", _IO_SETUP, 8, ctypes.byref(place))
        libc("syscall", _IO_DESTROY, place)

    def share_memory() -> None:
        segment = libc("shmget", 0, ctypes.c_size_t(4096), 0o600)
        libc("shmctl", segment, 0, None)

    def open_queue() -> None:
        queue = libc("mq_open", b"/planted", os.O_CREAT | os.O_RDWR, 0o600, None)
        libc("mq_unlink", b"/planted")
        os.close(queue)

    def schedule() -> None:
        os.sched_setscheduler(bystander, os.SCHED_OTHER, os.sched_param(0))

    def large_file() -> None:
        with (workspace / "large").open("wb", buffering=0) as file:
            for _ in range(4):
                file.write(bytes(2**20))

    def of_zeros() -> None:
        descriptor = os.open("/dev/zero", os.O_RDWR)
        try:
            mmap.mmap(descriptor, 2**30, mmap.MAP_SHARED).close()
        finally:
            os.close(descriptor)

    def open_many() -> None:
        pairs = [socket.socketpair() for _ in range(3_000)]
        for pair in pairs:
            for end in pair:
                end.close()

    def mount() -> None:
        libc("mount", b"none", str(workspace).encode(), b"tmpfs", 0, None)
        libc("umount2", str(workspace).encode(), 2)

    def append_to_checkpoint() -> None:
        with (checkpoint / "config.json").open("ab"):
            pass

    return {
        "read a file outside": secret.read_bytes,
        "read an ignored file of the checkpoint": Path(given["ignored"]).read_bytes,
        "list the checkpoint behind its view": lambda: list(Path(given["ignored"]).parent.iterdir()),
        "list a folder outside": lambda: list(secret.parent.iterdir()),
        "write a file outside": lambda: (secret.parent / "written").write_text("x"),
        "change the checkpoint": append_to_checkpoint,
        "read through a new link": lambda: ((workspace / "soft").symlink_to(secret), (workspace / "soft").read_bytes()),
        "link a file in": lambda: os.link(secret, workspace / "hard"),
        "change a mode outside": lambda: secret.chmod(0o666),
        "connect over TCP": lambda: connect(socket.AF_INET, tuple(given["tcp"])),
        "connect to a Unix socket": lambda: connect(socket.AF_UNIX, given["unix"]),
        "connect to a Unix socket of packets": lambda: connect(socket.AF_UNIX, given["packets"], socket.SOCK_SEQPACKET),
        "send a datagram": datagram,
        "run a set-uid program": run_setuid,
        "outlive its parent": outlive,
        "signal its parent": lambda: os.kill(parent, 0),
        "signal a bystander": lambda: os.kill(bystander, signal.SIGCONT),
        "signal a bystander with a value": lambda: libc("sigqueue", bystander, int(signal.SIGCONT), None),
        "signal a bystander through a descriptor": lambda: signal.pidfd_send_signal(
            os.pidfd_open(bystander), signal.SIGCONT
        ),
        "signal the owner of a file": lambda: on_a_socket(lambda file: fcntl.fcntl(file, fcntl.F_SETOWN, bystander)),
        "signal the owner of a file, of a kind": lambda: on_a_socket(
            lambda file: fcntl.fcntl(file, _F_SETOWN_EX, struct.pack("ii", _F_OWNER_PID, bystander))
        ),
        "choose the signal of a file": lambda: on_a_socket(
            lambda file: fcntl.fcntl(file, fcntl.F_SETSIG, int(signal.SIGCONT))
        ),
        "signal the owner of a socket": lambda: on_a_socket(
            lambda file: fcntl.ioctl(file, _FIOSETOWN, struct.pack("i", bystander))
        ),
        "signal the group of a socket": lambda: on_a_socket(
            lambda file: fcntl.ioctl(file, _SIOCSPGRP, struct.pack("i", bystander))
        ),
        "be signalled of changes": be_told_of_changes,
        "hold a lease on the checkpoint": lambda: on_a_checkpoint(
            lambda file: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        ),
        "clear its death signal": lambda: libc("prctl", _PR_SET_PDEATHSIG, 0, 0, 0, 0),
        "become another user": lambda: libc("setresuid", os.getuid(), os.getuid(), os.getuid()),
        "compare itself with a bystander": lambda: libc("syscall", _KCMP, os.getpid(), bystander, 1, 0, 0),
        "move a bystander to another processor": lambda: os.sched_setaffinity(bystander, os.sched_getaffinity(0)),
        "schedule a bystander": schedule,
        "slow a bystander's disk": lambda: libc("syscall", _IOPRIO_SET, 1, bystander, 0),
        "share memory with the machine": share_memory,
        "open the machine's message queues": open_queue,
        "empty a file outside": lambda: os.truncate(emptied, 0),
        "empty a file by reading it": lambda: os.close(os.open(emptied, os.O_RDONLY | os.O_TRUNC)),
        "empty a file by controlling it": lambda: os.close(os.open(emptied, os.O_ACCMODE | os.O_TRUNC)),
        "change a file's flags": lambda: on_a_checkpoint(set_flags),
        "set the times of a file outside": lambda: os.utime(secret, (1, 1)),
        "set the times of the checkpoint": set_times_of_the_checkpoint,
        "watch a folder outside": watch,
        "watch a file system": lambda: os.close(libc("syscall", _FANOTIFY_INIT, _FAN_REPORT_FID, os.O_RDONLY)),
        "take a queue of the machine's disks": queue_for_the_disk,
        "read the kernel's log": lambda: libc("klogctl", _SYSLOG_SIZE_BUFFER, None, 0),
        "trace a bystander": attach,
        "limit its parent": lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE),
        "read its parent's environment": Path(f"/proc/{parent}/environ").read_bytes,
        "read its parent's memory": lambda: Path(f"/proc/{parent}/mem").open("rb").close(),
        "write a huge file": large_file,
        "allocate past the limit": lambda: bytearray(2**30),
        "share memory past the limit": lambda: mmap.mmap(-1, 2**30).close(),
        "share memory of a device past the limit": of_zeros,
        "keep a file in memory": lambda: os.close(os.memfd_create("planted")),
        "grow a stack past the limit": lambda: mmap.mmap(
            -1, 2**30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_GROWSDOWN
        ).close(),
        "fill the kernel's memory with sockets": open_many,
        "mount a file system": mount,
    }


def allowed(workspace: Path, checkpoint: Path) -> None:
    """What an audit needs must work behind the fence."""
    assert json.loads((checkpoint / "config.json").read_bytes())
    (workspace / "artifact").mkdir()
    (workspace / "artifact" / "file").write_text("x")
    (workspace / "artifact" / "file").rename(workspace / "artifact" / "moved")
    thread = threading.Thread(target=os.getpid)
    thread.start()
    thread.join()
    import ssl  # noqa: F401  (reads OpenSSL's settings)
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    os.kill(os.getpid(), signal.SIGCONT)
    with (workspace / "artifact" / "moved").open("r+b") as file:
        file.truncate(0)
        fcntl.fcntl(file, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    os.sched_setaffinity(0, os.sched_getaffinity(0))


def outcome_of(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"


if __name__ == "__main__":
    wanted = read_request(Path(sys.argv[1]).read_bytes())
    told = json.loads(Path(sys.argv[2]).read_bytes())
    ways = attempts(told, wanted.workspace, wanted.base.path)
    match sys.argv[3]:
        case "oldest":
            here = landlock.version()
            landlock.version = lambda: min(1, here)
        case "no-namespaces":
            confinement.leave_network = lambda: False
        case "no-landlock":
            landlock.version = lambda: 0
        case "no-seccomp":
            confinement.refuse_system_calls = lambda **_: False
    missing = fence(wanted) if sys.argv[3] != "open" else []
    if sys.argv[3] != "open":
        allowed(wanted.workspace, wanted.base.path)
    said = {name: outcome_of(way) for name, way in ways.items()}
    features = landlock.features()
    told = {"missing": missing, "landlock": features, "environment": sorted(os.environ), "said": said}
    print(json.dumps(told))  # noqa: T201
