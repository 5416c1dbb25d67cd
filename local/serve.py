"""The embedded stack: one command that runs broker, API and worker on one machine.

The address is bound here and passed to the API, so that it is known to be free before anything starts, and callers wait
instead of being refused while a crashed API is restarted.
"""

import fcntl
import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from common.private_files import PublicFolder, keep_private, write_privately
from local import broker
from local.child import Launch, settings_environment
from local.errors import AddressInUse, ChildFailed, DataDirInUse, SetupError
from local.supervisor import RestartPolicy, StopRequested, Supervisor
from worker.sandbox.confinement import hide_memory
from worker.sandbox.orphans import Orphans

API, WORKER, BROKER = "api", "worker", "broker"
STOP_ORDER: Final = (API, WORKER, BROKER)
_READY_WITHIN_S: Final = 180.0
_GRACE_S: Final = {API: 15.0, WORKER: 60.0, BROKER: 10.0}
_APIS_OWN: Final = frozenset(f"BACKDOOR_AUDIT_{name}" for name in ("LISTEN_FD", "WEBHOOK_KEYS", "MLFLOW_EVENT_SECRET"))
"""Settings that no worker needs, most of them secrets."""
_BROKERS: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "MALLOC_CONF")
"""What the broker gets of the caller's environment, which may hold passwords."""


@dataclass(frozen=True)
class Stack:
    """What ``serve`` runs, and where. Paths are absolute; port 0 takes a free one."""

    data_dir: Path
    models_root: Path
    host: str = "127.0.0.1"
    port: int = 8321
    database_url: str | None = None
    broker_url: str | None = None
    restart: RestartPolicy = field(default_factory=RestartPolicy)


def serve_until_stopped(stack: Stack, show: Callable[[str], None]) -> None:
    """Run the stack until SIGINT, SIGTERM or SIGHUP. ``show`` gets each line for the person at the terminal.

    Raises:
        LocalError: it cannot start, or one of its processes died too often; by then, everything has been stopped.
    """

    def announce(name: str, line: str) -> None:
        show(f"{time.strftime('%H:%M:%S')}  {name:<7} {line}")

    write_privately()
    hide_memory()  # The environment may contain a password, and sandboxes run as the same user.
    supervisor = Supervisor(announce, stack.restart, Orphans.adopt())
    with ExitStack() as exits:
        exits.enter_context(supervisor.signals())
        lock = exits.enter_context(_data_dir_lock(stack.data_dir))
        listener = exits.enter_context(_listener(stack.host, stack.port))
        address = _address(listener)
        lock.write_text(json.dumps({"pid": os.getpid(), "url": address}) + "\n")
        exits.callback(supervisor.kill_all)
        try:
            _start(stack, supervisor, listener, address, exits)
            _greet(stack, address, show)
            supervisor.watch()
        except StopRequested:
            show("Stopping; running work continues at the next start. Press Ctrl-C again to stop immediately.")
        except ChildFailed:
            supervisor.stop(STOP_ORDER)
            raise
        supervisor.stop(STOP_ORDER)
        show("Stopped.")


def _start(stack: Stack, supervisor: Supervisor, listener: socket.socket, address: str, exits: ExitStack) -> None:
    """Start the children in order, each as soon as the previous one is ready."""
    _make(stack.models_root)
    logs = stack.data_dir / "logs"
    environment = _environment(stack, address, listener)
    if stack.broker_url is None:
        folder = stack.data_dir / "broker"
        _make(folder)
        socket_file = exits.enter_context(broker.socket_path(folder))
        argv = broker.command(folder, socket_file)
        own = {name: os.environ[name] for name in _BROKERS if name in os.environ}
        supervisor.start(Launch(BROKER, argv, own, logs / "broker.log", _GRACE_S[BROKER]))
        supervisor.wait_until(lambda: broker.answers(socket_file), "the broker", 30.0)
        environment["BACKDOOR_AUDIT_BROKER_URL"] = broker.url(socket_file)
    supervisor.start(
        Launch(API, _python("service"), environment, logs / "api.log", _GRACE_S[API], (listener.fileno(),))
    )
    others = {name: value for name, value in environment.items() if name not in _APIS_OWN}
    supervisor.start(Launch(WORKER, _python("worker"), others, logs / "worker.log", _GRACE_S[WORKER]))
    with closing(_ReadyProbe(listener)) as probe:
        supervisor.wait_until(probe, "the API", _READY_WITHIN_S)


class _ReadyProbe:
    """Queries ``/readyz`` without ever waiting: one call sends the request, later calls check for the response.

    Waiting would keep the supervisor from handling signals; giving up early and retrying would put more load on a slow
    machine.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._family = listener.family
        host, port = listener.getsockname()[:2]
        self._address = (_reachable(host), port)
        self._connection: socket.socket | None = None

    def __call__(self) -> bool:
        """Whether a 200 has come."""
        try:
            if self._connection is None:
                self._connection = socket.socket(self._family, socket.SOCK_STREAM)
                self._connection.settimeout(1.0)
                self._connection.connect(self._address)
                self._connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if not select.select([self._connection], [], [], 0)[0]:
                return False
            answer = self._connection.recv(64)
        except OSError:
            answer = b""
        self.close()
        return answer.startswith(b"HTTP/1.1 200 ")

    def close(self) -> None:
        """Drop the pending request."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _python(module: str) -> list[str]:
    # -P: a folder or file called "service" in the current folder must not be mistaken for ours.
    return [sys.executable, "-P", "-m", module]


def _environment(stack: Stack, address: str, listener: socket.socket) -> dict[str, str]:
    """The environment of the API and the worker: the caller's, overridden by our settings."""
    environment = settings_environment(stack.data_dir, stack.models_root) | {
        "PYTHONUNBUFFERED": "1",
        "BACKDOOR_AUDIT_HOST": stack.host,
        "BACKDOOR_AUDIT_PORT": address.rsplit(":", 1)[1],
        "BACKDOOR_AUDIT_LISTEN_FD": str(listener.fileno()),
    }
    for name, value in (("DATABASE_URL", stack.database_url), ("BROKER_URL", stack.broker_url)):
        environment.pop(f"BACKDOOR_AUDIT_{name}", None)
        if value is not None:
            environment[f"BACKDOOR_AUDIT_{name}"] = value
    return environment


def _greet(stack: Stack, address: str, show: Callable[[str], None]) -> None:
    show(f"Ready at {address}  (documentation: {address}/docs)")
    show(f"  models  {stack.models_root}")
    show(f"  data    {stack.data_dir}")
    show(f"  logs    {stack.data_dir / 'logs'}")
    show("Ctrl-C stops everything; queued and running audits continue at the next start.")


@contextmanager
def _data_dir_lock(data_dir: Path) -> Iterator[Path]:
    """Lock the data folder for this process; the kernel releases it however the process ends."""
    path = data_dir / "serve.lock"
    try:
        keep_private(data_dir)
    except PublicFolder as error:
        raise SetupError(str(error)) from error
    except OSError as error:
        raise SetupError(f"{data_dir} cannot be created: {error.strerror}") from error
    try:
        file = path.open("a+")
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataDirInUse(
                f"another serve already uses {data_dir}{_holder(path)}",
                hint="stop that one, or use another --data-dir",
            ) from error
        yield path


def _holder(path: Path) -> str:
    try:
        held = json.loads(path.read_text())
        return f" (process {held['pid']}, {held['url']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


@contextmanager
def _listener(host: str, port: int) -> Iterator[socket.socket]:
    """The bound and listening socket of the API."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise AddressInUse(f"{host} is not an address of this machine", hint="see --host") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(128)
        except OSError as error:
            raise AddressInUse(
                f"cannot listen on {host}, port {port}: {error.strerror}",
                hint="take another --port (0 takes a free one)",
            ) from error
        yield listener


def _address(listener: socket.socket) -> str:
    """The URL by which this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    host = _reachable(host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{folder} cannot be created: {error.strerror}") from error
