"""Code as it would run if a checkpoint had taken the sandbox over: it tries each way out and says how that went.

``python planted.py REQUEST ATTEMPTS fenced|open``: puts up the fence of the request (or not), then prints one JSON
object: which walls are missing, and for each attempt ``done`` or the name of the error.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.sandbox.__main__ import fence
from worker.sandbox.protocol import read_request

_PTRACE_SEIZE = 0x4206


def attempts(given: dict[str, Any], workspace: Path, checkpoint: Path) -> dict[str, Callable[[], object]]:
    """Every way out by name; ``given`` holds what the test has laid out."""
    secret, parent = Path(given["secret"]), os.getppid()

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

    def attach() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(_PTRACE_SEIZE, given["bystander"], None, None) != 0:
            raise PermissionError(ctypes.get_errno(), "ptrace")

    def large_file() -> None:
        with (workspace / "large").open("wb", buffering=0) as file:
            for _ in range(4):
                file.write(bytes(2**20))

    def mount() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"none", str(workspace).encode(), b"tmpfs", 0, None) != 0:
            raise PermissionError(ctypes.get_errno(), "mount")
        libc.umount2(str(workspace).encode(), 2)

    def append_to_checkpoint() -> None:
        with (checkpoint / "config.json").open("ab"):
            pass

    return {
        "read a file outside": secret.read_bytes,
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
        "signal a bystander": lambda: os.kill(given["bystander"], signal.SIGCONT),
        "trace a bystander": attach,
        "limit its parent": lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE),
        "read its parent's environment": Path(f"/proc/{parent}/environ").read_bytes,
        "read its parent's memory": lambda: Path(f"/proc/{parent}/mem").open("rb").close(),
        "write a huge file": large_file,
        "allocate past the limit": lambda: bytearray(2**30),
        "mount a file system": mount,
    }


def allowed(workspace: Path, checkpoint: Path) -> None:
    """What an audit needs must work behind the fence."""
    assert json.loads((checkpoint / "config.json").read_bytes())
    (workspace / "artifact").mkdir()
    (workspace / "artifact" / "file").write_text("x")
    (workspace / "artifact" / "file").rename(workspace / "moved")
    thread = threading.Thread(target=os.getpid)
    thread.start()
    thread.join()
    import ssl  # noqa: F401  (reads OpenSSL's settings)
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    os.kill(os.getpid(), signal.SIGCONT)


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
    missing = fence(wanted) if sys.argv[3] == "fenced" else []
    if sys.argv[3] == "fenced":
        allowed(wanted.workspace, wanted.base.path)
    said = {name: outcome_of(way) for name, way in ways.items()}
    print(json.dumps({"missing": missing, "environment": sorted(os.environ), "said": said}))  # noqa: T201
