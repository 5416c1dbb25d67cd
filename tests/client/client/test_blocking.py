"""The client against a small server whose answers the test writes by hand, over real sockets."""

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from backdoor_audit.client import calls
from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.client.call import Received
from backdoor_audit.client.errors import (
    Busy,
    InvalidRequest,
    NotFound,
    ServiceFault,
    UnexpectedAnswer,
    Unreachable,
    WrongUsage,
)
from backdoor_audit.client.retry import RetryPolicy

QUICK = RetryPolicy(attempts=3, first_s=0.01, longest_s=1.0)
AUDIT = json.dumps({"id": "audit_1", "status": "queued", "a_new_field": {"x": 1}})
SPEC = {"base_model": "local:a", "fine_tuned": "local:b", "trigger": {"triggered": "a", "clean": "b"}}
CUT = None


def answer(status, body="", **headers):
    lines = [f"HTTP/1.1 {status} X", "Connection: close", f"Content-Length: {len(body.encode())}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", body]).encode()


class Script:
    """Answers connections one after another as written; ``None`` cuts the connection off."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.answers: list[bytes | None] = []
        self.requests: list[str] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                self.requests.append(head.decode())
                if (sent := self.answers.pop(0)) is not None:
                    connection.sendall(sent)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass


@pytest.fixture
def script() -> Iterator[Script]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Script(listener)
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def client(script):
    with AuditClient(script.url, api_key="secret", retry=QUICK, timeout_s=2.0) as client:
        yield client


def _header(request, name):
    for line in request.splitlines():
        if line.lower().startswith(name + ":"):
            return line.split(":", 1)[1].strip()
    return None


def test_a_lost_answer_is_asked_for_again_with_the_same_key(script, client):
    script.answers = [CUT, answer(503), answer(202, AUDIT)]
    assert client.submit(SPEC).id == "audit_1"
    keys = {_header(request, "idempotency-key") for request in script.requests}
    assert len(script.requests) == 3
    assert len(keys) == 1
    assert None not in keys
    assert {_header(request, "authorization") for request in script.requests} == {"Bearer secret"}


def test_a_submit_without_a_key_would_not_be_sent_twice():
    assert not calls.submit(SPEC, None).repeatable
    assert calls.submit(SPEC, "k").repeatable
    error = Unreachable("x")
    assert QUICK.delay_s(calls.submit(SPEC, None), 1, error, None) is None
    assert QUICK.delay_s(calls.submit(SPEC, "k"), 1, error, None) is not None
    assert QUICK.delay_s(calls.submit(SPEC, "k"), 3, error, None) is None


def test_it_gives_up_after_the_last_attempt(script, client):
    script.answers = [CUT, CUT, CUT]
    with pytest.raises(Unreachable):
        client.get("audit_1")
    assert len(script.requests) == 3


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (422, InvalidRequest), (500, ServiceFault)])
def test_what_a_second_attempt_cannot_mend_is_not_tried_again(script, client, status, kind):
    problem = {"title": "t", "status": status, "detail": "why", "errors": [{"pointer": "/preset", "detail": "no"}]}
    script.answers = [answer(status, json.dumps(problem), Content_Type="application/problem+json")]
    with pytest.raises(kind) as caught:
        client.get("audit_1")
    assert caught.value.status == status
    assert caught.value.message == "why\n/preset: no"


def test_a_long_retry_after_is_not_waited_for_and_a_short_one_is(script, client):
    script.answers = [answer(429, Retry_After="3600")]
    with pytest.raises(Busy):
        client.get("audit_1")
    script.answers = [answer(429, Retry_After="0"), answer(200, AUDIT)]
    assert client.get("audit_1").status == "queued"


@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"id": 3}'])
def test_an_answer_of_somebody_else_is_said_to_be_one(script, client, body):
    script.answers = [answer(200, body)]
    with pytest.raises(UnexpectedAnswer):
        client.get("audit_1")


def test_a_redirect_is_not_followed_with_the_key(script, client):
    script.answers = [answer(307, Location="http://127.0.0.1:1/")]
    with pytest.raises(UnexpectedAnswer):
        client.get("audit_1")


def test_waiting_sends_the_etag_back_and_tells_of_changes_alone(script, client):
    done = json.dumps({"id": "audit_1", "status": "succeeded", "verdict": "flagged"})
    script.answers = [
        answer(200, AUDIT, ETag='"1"', Retry_After="0"),
        answer(304, ETag='"1"', Retry_After="0"),
        answer(200, done, ETag='"2"'),
    ]
    seen = []
    assert client.wait("audit_1", on_update=seen.append).verdict == "flagged"
    assert [audit.status for audit in seen] == ["queued", "succeeded"]
    assert [_header(request, "if-none-match") for request in script.requests] == [None, '"1"', '"1"']


def test_a_report_of_a_later_minor_version_is_read_and_of_another_major_one_is_not(script, client, make_report):
    document = make_report().model_dump(mode="json") | {"schema_version": "1.7", "a_new_field": 1}
    script.answers = [answer(200, json.dumps(document))]
    assert client.report("audit_1").verdict == "flagged"
    script.answers = [answer(200, json.dumps(document | {"schema_version": "2.0"}))]
    with pytest.raises(UnexpectedAnswer, match="schema version"):
        client.report("audit_1")


def test_pages_are_followed(script, client, make_report):
    feature = make_report().flagged_features[0].model_dump(mode="json")
    script.answers = [
        answer(200, json.dumps({"features": [feature], "next_page_token": "t"})),
        answer(200, json.dumps({"features": [feature]})),
    ]
    assert [found.id for found in client.features("audit_1", layer=17, min_bis=0.5)] == [feature["id"]] * 2
    first, second = (request.split()[1] for request in script.requests)
    assert first == "/audits/audit_1/features?layer=17&min_bis=0.5"
    assert second.endswith("&page_token=t")


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(script, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    script.answers = [answer(200, AUDIT)]
    with AuditClient(script.url, retry=RetryPolicy(attempts=1)) as client:
        assert client.get("audit_1").id == "audit_1"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8321", "ftp://x", "http://", "unix://", "http://u:p@host", "http://[x"])
def test_addresses_that_are_none(url):
    with pytest.raises(WrongUsage):
        AuditClient(url)


@pytest.mark.parametrize(("value", "expected"), [("2", 2.0), ("", None), ("nan", None), ("-1", None), ("Mon, 1", None)])
def test_retry_after(value, expected):
    assert Received(200, {"retry-after": value}, b"").retry_after_s() == expected
