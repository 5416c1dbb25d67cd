"""Live progress in a real Chromium: by events, by polling where these are cut off, and by events again."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from backdoor_audit.contract.lifecycle import Failure


class Cutter:
    """A TCP relay to a service that can cut off the streams of events and lets all else through."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.cut = False
        self.asked: list[str] = []
        """What was asked for, in order: ``events``, ``events, refused`` or ``state``."""
        self._open: set[socket.socket] = set()
        self._streams: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_off(self) -> None:
        """End the streams that are open, and refuse new ones."""
        self.cut = True
        for stream in list(self._streams):
            _end(stream)
        self._streams.clear()

    def close(self) -> None:
        _end(self._listener)
        for connection in list(self._open):
            _end(connection)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            self._open |= {client, server}
            threading.Thread(target=self._relay, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._relay, args=(server, client, False), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, asks: bool) -> None:
        try:
            while data := source.recv(65536):
                if asks and b"/events HTTP" in data:
                    self.asked.append("events, refused" if self.cut else "events")
                    if self.cut:
                        break
                    self._streams.add(source)
                if asks and b"/state HTTP" in data:
                    self.asked.append("state")
                sink.sendall(data)
        except OSError:
            pass
        _end(source)
        _end(sink)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@pytest.fixture
def cutter(served) -> Iterator[Cutter]:
    relay = Cutter(served.http.base_url.host, served.http.base_url.port)
    yield relay
    relay.close()


def wait_until(true, seconds=20):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_cut_stream_of_events_is_made_up_for_by_polling_until_it_is_back(browser, served, cutter):
    ledger, audit_id = served.dependencies.ledger, served.file()
    page = browser.new_page()
    page.goto(f"{cutter.address}/ui/audits/{audit_id}")
    wait_until(lambda: "events" in cutter.asked)
    claim = served.claim(audit_id)
    ledger.progress(claim, "extract", 0.3, "told by an event")
    page.wait_for_selector("text=told by an event", timeout=20_000)

    cutter.cut_off()
    wait_until(lambda: "events, refused" in cutter.asked)
    ledger.progress(claim, "train", 0.5, "found by a look")
    page.wait_for_selector("text=found by a look", timeout=20_000)
    assert "state" in cutter.asked[cutter.asked.index("events, refused") :]
    assert cutter.asked.count("events") == 1, "nothing came through but by polling"

    cutter.cut = False
    wait_until(lambda: cutter.asked.count("events") == 2)

    def polls_no_more():
        looked = cutter.asked.count("state")
        time.sleep(4)
        return cutter.asked.count("state") == looked

    wait_until(polls_no_more)  # with events there is no need to
    ledger.fail(claim, Failure(code="internal", message="the end"))
    page.wait_for_selector("text=the end", timeout=20_000)
    assert page.locator("progress").count() == 0
    page.close()


def test_where_events_never_come_polling_shows_the_end(browser, served):
    ledger, audit_id = served.dependencies.ledger, served.file()
    context = browser.new_context()
    context.route("**/events", lambda route: route.abort())
    page = context.new_page()
    page.goto(f"{served.http.base_url}/ui/audits/{audit_id}")
    claim = served.claim(audit_id)
    ledger.progress(claim, "train", 0.5, "4 dictionaries")
    page.wait_for_selector("text=4 dictionaries", timeout=20_000)
    ledger.fail(claim, Failure(code="internal", message="it broke"))
    page.wait_for_selector("text=it broke", timeout=20_000)
    context.close()


def test_without_scripts_the_page_loads_itself_again(browser, served):
    ledger, audit_id = served.dependencies.ledger, served.file()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{served.http.base_url}/ui/audits/{audit_id}")
    ledger.progress(served.claim(audit_id), "train", 0.5, "4 dictionaries")
    page.wait_for_selector("text=4 dictionaries", timeout=20_000)
    context.close()


def test_an_audit_that_somebody_deletes_is_gone_from_the_page(browser, served):
    audit_id = served.file()
    context = browser.new_context()
    context.route("**/events", lambda route: route.abort())
    page = context.new_page()
    page.goto(f"{served.http.base_url}/ui/audits/{audit_id}")
    served.dependencies.ledger.request_cancel(audit_id, owner="local")
    served.dependencies.ledger.delete(audit_id, owner="local")
    page.wait_for_selector("h1:has-text('Audit not found')", timeout=20_000)
    context.close()
