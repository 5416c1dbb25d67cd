"""Clients that are slow or silent, without a key: they cost a descriptor for a while, and shut nobody out."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs.ledger import Ledger
from tests.processes import mortal
from tests.worker.conftest import wait_for

ROOT = Path(__file__).resolve().parents[3]
DESCRIPTORS = 128
PATIENCE_S = 2


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, valkey_server: Any) -> Iterator[str]:
    """A service that asks for keys, may open 128 descriptors, and waits two seconds for a client."""
    with running(tmp_path_factory.mktemp("slow"), valkey_server, PATIENCE_S) as address:
        yield address


@pytest.fixture
def patient(tmp_path: Path, valkey_server: Any) -> Iterator[str]:
    """The same, which waits for longer than a test takes."""
    with running(tmp_path, valkey_server, 300) as address:
        yield address


@contextmanager
def running(folder: Path, valkey_server: Any, patience_s: float) -> Iterator[str]:
    """The address of a service of its own process."""
    (folder / "models").mkdir()
    (folder / "data").mkdir()
    ledger = Ledger(f"sqlite:///{folder}/data/ledger.sqlite3")
    ledger.migrate()
    ledger.keys.create(owner="ann", name="one", scopes=["audits:read"])
    ledger.close()
    with socket.socket() as listener, (folder / "log").open("wb") as log:
        listener.bind(("127.0.0.1", 0))
        settings = {
            "DATA_DIR": str(folder / "data"),
            "MODELS_ROOT": str(folder / "models"),
            "BROKER_URL": f"redis+socket://{valkey_server.unix_socket_path}",
            "LISTEN_FD": str(listener.fileno()),
            "REQUIRE_KEYS": "true",
            "CLIENT_PATIENCE_S": str(patience_s),
        }
        command = f"ulimit -n {DESCRIPTORS} && exec {sys.executable} -m service"
        child = subprocess.Popen(
            mortal(["/bin/sh", "-c", command]),
            cwd=ROOT,
            env=os.environ | {f"BACKDOOR_AUDIT_{name}": value for name, value in settings.items()},
            stderr=log,
            pass_fds=[listener.fileno()],
        )
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            wait_for(lambda: is_alive(address) or child.poll() is not None, 60, folder / "log")
            yield address
            assert child.poll() is None, (folder / "log").read_text()
        finally:
            child.kill()
            child.wait()


def is_alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def connect(url: str, stack: ExitStack, sent: bytes = b"") -> socket.socket:
    host, port = httpx.URL(url).host, httpx.URL(url).port
    line = stack.enter_context(socket.create_connection((host, port), timeout=10))
    line.sendall(sent)
    return line


def is_closed(line: socket.socket) -> bool:
    line.settimeout(0.01)
    try:
        while line.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n",
        b"POST /audits HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n{",
        b"PUT /models/x/files/config.json HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n{",
        b"POST /mlflow/events HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n{",
        b"POST /ui/sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nkey=",
    ],
)
def test_half_sent_requests_shut_nobody_out(url: str, sent: bytes) -> None:
    with ExitStack() as stack:
        lines = []
        for _ in range(DESCRIPTORS + 12):
            lines.append(connect(url, stack, sent))
            if len(lines) % 20 == 0:
                assert is_alive(url), len(lines)
        assert is_alive(url)
        wait_for(lambda: all(map(is_closed, lines)), 10 * PATIENCE_S)


def test_a_head_that_trickles_ends_in_time(url: str) -> None:
    with ExitStack() as stack:
        line = connect(url, stack, b"GET /livez HTTP/1.1\r\n")
        began_at = time.monotonic()
        while not is_closed(line):
            assert time.monotonic() - began_at < 5 * PATIENCE_S
            time.sleep(0.1)
            try:
                line.sendall(b"X-A: b\r\n")
            except OSError:
                break


def test_a_body_that_nobody_reads_does_not_keep_a_line_open(url: str) -> None:
    """Answered at once, for want of a key, and trickling on."""
    head = b"POST /audits HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n"
    with ExitStack() as stack:
        line = connect(url, stack, head)
        assert line.recv(1 << 16).startswith(b"HTTP/1.1 401")
        began_at = time.monotonic()
        while not is_closed(line):
            assert time.monotonic() - began_at < 5 * PATIENCE_S
            time.sleep(0.1)
            try:
                line.sendall(b" ")
            except OSError:
                break


def test_a_reader_that_takes_nothing_is_let_go(url: str) -> None:
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as stack:
        line = stack.enter_context(socket.socket())
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        line.connect((httpx.URL(url).host, httpx.URL(url).port))
        line.settimeout(0.5)
        for _ in range(200):  # pipelined, so that the answers fill every buffer between us
            try:
                line.sendall(ask)
            except OSError:
                break
        port = line.getsockname()[1]
        wait_for(lambda: not _is_open(port), 10 * PATIENCE_S)
    assert is_alive(url)


def test_readers_that_take_nothing_shut_nobody_out(patient: str) -> None:
    """None of them owes a head or a body: each has sent whole requests, and leaves the answers lying."""
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 30
    with ExitStack() as stack:
        for _ in range(DESCRIPTORS // 2):
            line = stack.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            line.connect((httpx.URL(patient).host, httpx.URL(patient).port))
            line.setblocking(False)
            with suppress(OSError):
                line.send(ask)
        wait_for(lambda: is_alive(patient), 60)


def _is_open(port: int) -> bool:
    """Whether a process of this machine has the other end of the connection from this port."""
    import psutil

    return any(
        one.raddr and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED
        for one in psutil.net_connections("tcp4")
    )


def test_a_request_that_is_whole_is_answered_among_them(url: str) -> None:
    with ExitStack() as stack, httpx.Client(trust_env=False, timeout=5) as http:
        for _ in range(DESCRIPTORS):
            connect(url, stack, b"GET /livez HTTP/1.1\r\n")
            assert http.get(f"{url}/livez").status_code == 200


def test_a_body_that_does_not_come_is_given_up(serve: Any) -> None:
    served = serve(client_patience_s=1)
    with ExitStack() as stack:
        for call in ("POST /audits", "PUT /models/x/files/config.json"):
            head = f"{call} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99999"
            line = connect(str(served.http.base_url), stack, f"{head}\r\n\r\n{{".encode())
            answer = line.makefile("rb").read()  # to the end: the service closes
            assert answer.startswith(b"HTTP/1.1 408")
            assert b'"request_timeout"' in answer


def test_a_slow_body_has_the_time_that_its_length_takes(serve: Any) -> None:
    served = serve(client_patience_s=1)

    def pieces() -> Iterator[bytes]:
        for _ in range(4):
            time.sleep(0.5)
            yield b" " * 1_000

    answer = served.http.post("/audits", content=pieces(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")
