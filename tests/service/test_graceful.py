"""SIGTERM while requests are open: they are answered, or cut off when the grace period is over."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.processes import mortal
from tests.worker.conftest import wait_for

ROOT = Path(__file__).resolve().parents[2]
GRACE_S = 4


@contextmanager
def serving(tmp_path: Path, broker_url: str) -> "Iterator[tuple[str, subprocess.Popen[bytes]]]":
    """The API in a process of its own, on a port that its log names."""
    (tmp_path / "models").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BACKDOOR_AUDIT_")} | {
        "BACKDOOR_AUDIT_DATA_DIR": str(tmp_path / "data"),
        "BACKDOOR_AUDIT_MODELS_ROOT": str(tmp_path / "models"),
        "BACKDOOR_AUDIT_BROKER_URL": broker_url,
        "BACKDOOR_AUDIT_PORT": "0",
        "BACKDOOR_AUDIT_SHUTDOWN_GRACE_S": str(GRACE_S),
    }
    log = tmp_path / "api.log"
    with log.open("wb") as output:
        child = subprocess.Popen(mortal([sys.executable, "-m", "service"]), cwd=ROOT, env=environment, stderr=output)
    try:
        yield _address(log, child), child
    finally:
        child.kill()
        child.wait()


def _address(log: Path, child: "subprocess.Popen[bytes]") -> str:
    give_up_at = time.monotonic() + 60
    while True:
        assert child.poll() is None, log.read_text()
        assert time.monotonic() < give_up_at, log.read_text()
        for line in log.read_text().splitlines():
            if '"service.started"' in line:
                url: str = json.loads(line)["address"]
                try:
                    httpx.get(f"{url}/livez", trust_env=False).raise_for_status()
                except httpx.TransportError:
                    break
                return url
        time.sleep(0.05)


@contextmanager
def begun(url: str, body: bytes) -> "Iterator[http.client.HTTPConnection]":
    """A request whose body the service has asked for, and of which it has the first half."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
        connection.putrequest("POST", "/audits")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        while not connection.sock.recv(1024, socket.MSG_PEEK).endswith(b"\r\n\r\n"):
            pass
        assert connection.sock.recv(1024).startswith(b"HTTP/1.1 100 ")
        connection.send(body[: len(body) // 2])
        yield connection


@pytest.fixture
def body(spec: dict[str, Any]) -> bytes:
    return json.dumps(spec).encode()


def test_a_request_that_is_under_way_is_answered(tmp_path: Path, broker_url: str, body: bytes) -> None:
    with serving(tmp_path, broker_url) as (url, child):
        with begun(url, body) as connection:
            child.send_signal(signal.SIGTERM)
            log = tmp_path / "api.log"
            wait_for(lambda: "Shutting down" in log.read_text(), 30, log)
            connection.send(body[len(body) // 2 :])
            with connection.getresponse() as answer:
                assert answer.status == 202
                assert json.loads(answer.read())["status"] == "queued"
        assert child.wait(GRACE_S + 5) == 0


def test_one_that_never_ends_does_not_hold_it_up(tmp_path: Path, broker_url: str, body: bytes) -> None:
    with serving(tmp_path, broker_url) as (url, child), begun(url, body):
        told = time.monotonic()
        child.send_signal(signal.SIGTERM)
        assert child.wait(GRACE_S + 15) == 0
        assert time.monotonic() - told < GRACE_S + 5
