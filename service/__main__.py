"""``python -m service``: brings the ledger's schema up to date, then serves until it is stopped."""

import ipaddress
import math
import signal
import socket
import sys
import time
from contextlib import closing
from types import FrameType
from typing import Final, NoReturn

import structlog
import uvicorn

from common import logs
from common.private_files import PublicFolder, keep_private, write_privately
from jobs.errors import LedgerError, LedgerUnavailable
from jobs.ledger import Ledger
from models_store.errors import StoreError
from service.app import create_app
from service.dependencies import Dependencies
from service.errors import StartupError
from service.http.connections import limits_of, serve
from service.settings import Settings
from service.webhooks.trust import context_of
from storage.errors import InvalidLocation, StorageError
from worker.errors import WorkerError
from worker.sandbox.confinement import hide_memory

EXIT_USAGE: Final = 2
"""The settings are invalid."""
EXIT_UNAVAILABLE: Final = 3
"""The database does not respond, or has another version."""

log = structlog.get_logger(__name__)


def main() -> int:
    """Serve; returns the exit code of the process."""
    logs.configure()
    write_privately()
    hide_memory()  # The environment may contain passwords and keys, and sandboxes run as the same user.
    # The server passes a signal on after it has shut down, and before it starts there is nothing to shut down; in both
    # cases the process has finished successfully.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        settings = Settings.load()
        check(settings)
        listener = listen(settings)
    except StartupError as error:
        log.error("service.start_failed", reason=error.detail)
        return EXIT_USAGE
    keys_required = settings.require_keys or not _is_local(listener)
    try:
        with closing(Ledger(settings.database_url, lease_s=settings.lease_s)) as ledger:
            migrate(ledger, settings.startup_wait_s)
            if keys_required:
                require_a_key(ledger, _name(listener))
    except StartupError as error:
        log.error("service.start_failed", reason=error.detail)
        return EXIT_USAGE
    except LedgerError as error:
        log.error("service.start_failed", reason="the ledger cannot be used", error=type(error).__name__)
        return EXIT_UNAVAILABLE
    log.info("service.started", address=_name(listener), keys_required=keys_required)
    config = uvicorn.Config(
        create_app(settings, keys_required=keys_required),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_grace_s),
    )
    serve(config, limits_of(settings.max_connections, settings.client_patience_s), [listener])
    return 0


def check(settings: Settings) -> None:
    """Fail immediately instead of at the first request; creates the data folder.

    Raises:
        StartupError
    """
    try:
        keep_private(settings.data_dir)
        Dependencies.open(settings).close()
        context_of(settings.webhook_ca_file)
    except InvalidLocation as error:
        raise StartupError(f"BACKDOOR_AUDIT_ARTIFACTS_URL: {error.message} ({error.hint})") from error
    except PublicFolder as error:
        raise StartupError(f"BACKDOOR_AUDIT_DATA_DIR: {error}") from error
    except (OSError, ValueError, StoreError, StorageError, WorkerError) as error:
        # Only the type: the message may repeat an address, and an address may contain a password.
        raise StartupError(
            "the data folder, or one of the addresses of database, broker and artifacts, cannot be used "
            f"({type(error).__name__})"
        ) from error


def listen(settings: Settings) -> socket.socket:
    """The bound socket: the one that was passed in, or a new one.

    Raises:
        StartupError: it cannot be bound.
    """
    listener = _opened(settings.listen_fd) if settings.listen_fd is not None else _bound(settings.host, settings.port)
    if listener.family != socket.AF_UNIX:
        # Accepted connections inherit this option. Without it, a response's body waits until its head is acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def migrate(ledger: Ledger, patience_s: float) -> None:
    """Bring the ledger's schema up to date, waiting for a database that is still starting.

    Raises:
        jobs.errors.LedgerError
    """
    patience_ends = time.monotonic() + patience_s
    while True:
        try:
            ledger.migrate()
            return
        except LedgerUnavailable:
            if time.monotonic() >= patience_ends:
                raise
            log.info("database.awaited")
            time.sleep(0.5)


def require_a_key(ledger: Ledger, address: str) -> None:
    """Refuse to serve if a key is required but none exists.

    Raises:
        StartupError
    """
    if not ledger.keys.any_live():
        raise StartupError(
            f"every call to {address} needs an API key, since other machines can reach it or REQUIRE_KEYS is set, and "
            "there is no key yet: create one with python -m service.keys create --name NAME --scopes admin, or bind "
            "to "
            "127.0.0.1"
        )


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _opened(descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=descriptor)
    except OSError as error:
        raise StartupError(f"file descriptor {descriptor} is not a socket: {error.strerror}") from error


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise StartupError(f"the given host is unknown: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise StartupError(f"cannot bind to the given host and port: {error.strerror}") from error
    return listener


def _is_local(listener: socket.socket) -> bool:
    if listener.family == socket.AF_UNIX:
        return True
    return ipaddress.ip_address(listener.getsockname()[0].split("%")[0]).is_loopback


def _name(listener: socket.socket) -> str:
    if listener.family == socket.AF_UNIX:
        return "a unix socket"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
