"""Row 16 of the fault matrix: what a webhook's other side may do, and that no audit is the worse for it."""

import json
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks import Webhook

from service.webhooks.sender import DeliveryLoop

SOON_S = 20.0
OPTIONS = {"webhook_networks": ["127.0.0.1/32"], "webhook_timeout_s": 5, "webhook_retry_s": [0.1, 0.1]}


class Target:
    """Somebody's server: answers with the statuses of its script, the last one for ever, and keeps what it was sent."""

    def __init__(self, *script, location=None, body=b""):
        self.script = list(script)
        self.received = []
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                content = self.rfile.read(int(self.headers["content-length"])).decode()
                target.received.append((dict(self.headers), content, time.monotonic()))
                status = target.script.pop(0) if len(target.script) > 1 else target.script[0]
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def target():
    """Start targets: ``target(500, 204)``."""
    with ExitStack() as stack:

        def start(*script, **options):
            one = Target(*script, **options)
            thread = threading.Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            stack.callback(thread.join)
            stack.callback(one.server.server_close)
            stack.callback(one.server.shutdown)
            return one

        yield start


@pytest.fixture
def served(serve):
    return serve(**OPTIONS)


def register(served, url, **options):
    answer = served.http.post("/webhooks", json={"url": url, **options})
    assert answer.status_code == 201, answer.text
    return answer.json()


def deliveries(served, webhook):
    return served.http.get(f"/webhooks/{webhook['id']}/deliveries").json()["deliveries"]


def settled(served, webhook, count=1):
    """The deliveries of a webhook, once none of them is pending."""
    give_up_at = time.monotonic() + SOON_S
    while True:
        found = deliveries(served, webhook)
        if len(found) == count and all(one["state"] != "pending" for one in found):
            return found
        assert time.monotonic() < give_up_at, found
        time.sleep(0.05)


def errors(delivery):
    return [attempt["error"] for attempt in delivery["attempts"]]


def test_an_end_is_told_signed_and_once(served, target):
    receiver = target(204)
    webhook = register(served, receiver.url)
    audit_id = served.file()
    served.succeed(audit_id)
    (delivery,) = settled(served, webhook)
    assert (delivery["state"], delivery["type"], delivery["audit_id"]) == ("delivered", "audit.succeeded", audit_id)
    ((headers, body, _),) = receiver.received
    message = Webhook(webhook["secret"]).verify(body, {name.lower(): value for name, value in headers.items()})
    assert message["data"] == {"audit_id": audit_id, "status": "succeeded", "verdict": "flagged"}
    assert headers["webhook-id"] == delivery["id"]
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers


def test_a_500_is_retried_with_the_same_id_until_it_is_taken(served, target):
    receiver = target(500, 503, 204)
    webhook = register(served, receiver.url)
    served.succeed(served.file())
    (delivery,) = settled(served, webhook)
    assert delivery["state"] == "delivered"
    assert [(one["status"], one["error"]) for one in delivery["attempts"]] == [
        (500, "status"),
        (503, "status"),
        (204, None),
    ]
    assert len({headers["webhook-id"] for headers, _, _ in receiver.received}) == 1
    assert len({body for _, body, _ in receiver.received}) == 1


def test_a_500_for_ever_fails_and_can_be_replayed(served, target):
    receiver = target(500)
    webhook = register(served, receiver.url)
    audit_id = served.file()
    report = served.succeed(audit_id)
    (delivery,) = settled(served, webhook)
    assert (delivery["state"], errors(delivery)) == ("failed", ["status"] * 3)
    assert served.http.get(f"/audits/{audit_id}").json()["status"] == "succeeded"
    assert served.http.get(f"/audits/{audit_id}/report").json() == json.loads(report.model_dump_json())
    receiver.script[:] = [200]
    answer = served.http.post(f"/webhooks/{webhook['id']}/deliveries/{delivery['id']}/replay")
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    (delivery,) = settled(served, webhook)
    assert (delivery["state"], errors(delivery)) == ("delivered", ["status"] * 3 + [None])


def test_a_302_is_not_followed(served, target):
    inside = target(200)
    receiver = target(302, location=inside.url)
    webhook = register(served, receiver.url)
    served.succeed(served.file())
    (delivery,) = settled(served, webhook)
    assert (delivery["state"], errors(delivery)) == ("failed", ["redirect"] * 3)
    assert inside.received == []


def test_a_name_that_resolves_to_a_private_address_is_refused(serve, target):
    receiver = target(200)
    served = serve(webhook_retry_s=[0.1])
    port = receiver.server.server_port
    for url in (receiver.url, f"https://127.0.0.1:{port}/", f"http://localhost:{port}/"):
        assert served.http.post("/webhooks", json={"url": url}).status_code == 422
    webhook = register(served, f"https://localhost:{port}/")
    served.succeed(served.file())
    (delivery,) = settled(served, webhook)
    assert (delivery["state"], errors(delivery)) == ("failed", ["address_refused"])
    assert receiver.received == []


@contextmanager
def silent():
    """Somebody who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_one_that_hangs_is_given_up_and_keeps_nobody_else_waiting(serve, target):
    served = serve(**OPTIONS | {"webhook_timeout_s": 0.5})
    receiver = target(204)
    with silent() as url:
        hanging, answering = register(served, url), register(served, receiver.url)
        for _ in range(3):
            served.succeed(served.file())
        settled(served, answering, 3)
        audit_id = served.file()
        assert served.http.post(f"/audits/{audit_id}/cancel").status_code == 202
        found = settled(served, hanging, 4)
    assert {(one["state"], *errors(one)) for one in found} == {("failed", "timeout", "timeout", "timeout")}
    assert all(attempt["seconds"] < 2 for one in found for attempt in one["attempts"])
    assert len(receiver.received) >= 3


def test_one_that_nobody_listens_on_is_retried(served):
    with silent() as url:
        pass
    webhook = register(served, url)
    served.succeed(served.file())
    assert errors(settled(served, webhook)[0]) == ["connection"] * 3


def test_an_endless_answer_is_cut_off(served, target):
    receiver = target(200, body=b"x" * 10_000_000)
    webhook = register(served, receiver.url)
    served.succeed(served.file())
    (delivery,) = settled(served, webhook)
    assert (delivery["state"], len(delivery["attempts"])) == ("delivered", 1)


def test_one_that_is_gone_is_told_nothing_more(served, target):
    receiver = target(410)
    webhook = register(served, receiver.url)
    served.succeed(served.file())
    assert settled(served, webhook)[0]["state"] == "failed"
    give_up_at = time.monotonic() + SOON_S
    while served.http.get(f"/webhooks/{webhook['id']}").json()["disabled_at"] is None:
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    served.succeed(served.file())
    assert len(deliveries(served, webhook)) == 1
    for path in ("test", f"deliveries/{deliveries(served, webhook)[0]['id']}/replay"):
        answer = served.http.post(f"/webhooks/{webhook['id']}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (409, "webhook_disabled")


def test_what_was_not_sent_when_the_service_went_is_sent_by_the_next(serve, target):
    receiver = target(204)
    first = serve(**OPTIONS)
    webhook = register(first, receiver.url)
    book = first.dependencies.ledger.webhooks
    audit_id = first.file()
    # Other services of this process have loops of their own.
    loop = next(one for one in threading.enumerate() if isinstance(one, DeliveryLoop) and one._book is book)
    loop.stop()
    first.succeed(audit_id)
    taken = book.take(limit=4, lease_s=0.1)
    assert len(taken) == 1
    loop_again = DeliveryLoop(book, loop._sender, [0.1])
    loop_again.start()
    assert settled(first, webhook)[0]["state"] == "delivered"
    loop_again.stop()
    assert [headers["webhook-id"] for headers, _, _ in receiver.received] == [taken[0].id]


def test_tests_and_replays_are_limited_and_hold_up_nobody_else(served, target):
    receiver = target(204)
    webhook = register(served, receiver.url)
    answers = [served.http.post(f"/webhooks/{webhook['id']}/test") for _ in range(40)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(answers) - len(refused) <= 32
    assert {(answer.json()["code"], "retry-after" in answer.headers) for answer in refused} == {
        ("too_many_requests", True)
    }
    delivery = deliveries(served, webhook)[0]["id"]
    assert served.http.post(f"/webhooks/{webhook['id']}/deliveries/{delivery}/replay").status_code == 429
    served.http.post(f"/audits/{served.file()}/cancel").raise_for_status()
    settled(served, webhook, len(answers) - len(refused) + 1)
