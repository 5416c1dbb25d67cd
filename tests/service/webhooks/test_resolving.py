import socket
import threading
import time

import httpcore
import pytest

from service.webhooks import resolving
from service.webhooks.resolving import addresses_of
from tests.clocks import ends_within


@pytest.fixture
def stuck(monkeypatch):
    """A resolver that answers ``stuck.example`` when it is let go, as one whose servers are silent does."""
    let_go = threading.Event()
    really = socket.getaddrinfo

    def resolve(host, *rest, **more):
        if host == "stuck.example":
            let_go.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "no server answers")
        return really(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield let_go
    let_go.set()
    deadline = time.monotonic() + 5
    while any(thread.name == "resolver" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def within(seconds):
    return time.monotonic() + seconds


def test_names_and_addresses():
    assert "127.0.0.1" in addresses_of("localhost", 80, within(5))
    assert set(addresses_of("127.0.0.1", 80, within(5))) == {"127.0.0.1"}
    for host in ("nobody.invalid", "x" * 70 + ".example"):
        with pytest.raises(httpcore.ConnectError):
            addresses_of(host, 80, within(20))


def test_a_resolver_that_is_stuck_is_not_waited_for(stuck):
    def ask():
        with pytest.raises(httpcore.ConnectTimeout, match="in time"):
            addresses_of("stuck.example", 80, within(0.2))

    assert ends_within(2, ask)
    assert "127.0.0.1" in addresses_of("localhost", 80, within(5))


def test_there_are_only_so_many_questions_at_once_and_their_places_come_back(stuck):
    for _ in range(resolving._AT_ONCE):
        with pytest.raises(httpcore.ConnectTimeout, match="in time"):
            addresses_of("stuck.example", 80, within(0.02))
    waiting = [thread for thread in threading.enumerate() if thread.name == "resolver"]
    assert len(waiting) == resolving._AT_ONCE
    with pytest.raises(httpcore.ConnectTimeout, match="too many"):
        addresses_of("localhost", 80, within(0.05))
    stuck.set()
    assert addresses_of("localhost", 80, within(5))
