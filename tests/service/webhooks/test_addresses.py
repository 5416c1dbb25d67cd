"""Where a webhook may lead."""

import ipaddress
import socket
import threading
import time

import httpcore
import pytest

from service.errors import InvalidRequest
from service.webhooks import addresses
from service.webhooks.addresses import AddressRefused, CheckedBackend, check, permitted, split
from tests.clocks import ends_within

LOCAL = (ipaddress.ip_network("127.0.0.1/32"),)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "240.0.0.1",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_address_that_is_not_public(address, scheme):
    assert not permitted(ipaddress.ip_address(address), scheme, ())


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_over_tls_alone(address):
    assert permitted(ipaddress.ip_address(address), "https", ())
    assert not permitted(ipaddress.ip_address(address), "http", ())


def test_the_operators_own_list_goes_further():
    networks = tuple(map(ipaddress.ip_network, ("10.1.0.0/16", "fd00::/8")))
    for address in ("10.1.2.3", "fd00::1", "::ffff:10.1.2.3"):
        for scheme in ("http", "https"):
            assert permitted(ipaddress.ip_address(address), scheme, networks)
    assert not permitted(ipaddress.ip_address("10.2.0.1"), "https", networks)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "https://",
        "https:///x",
        "https://user:pass@a.example/",
        "https://user@a.example/",
        "https://a.example/#f",
        "https://a.example:0x50/",
        "https://a.example:99999/",
        "https://a.example/\n",
        "https://a b.example/",
        "https://ä.example/",
        "http://a.example/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1%25eth0]/",
    ],
)
def test_what_is_refused_at_registration(url):
    with pytest.raises(InvalidRequest) as refused:
        check(url, ())
    assert [item.pointer for item in refused.value.errors] == ["#/url"]
    assert "example" not in refused.value.errors[0].detail


def test_the_parts_of_an_address():
    assert split("https://a.example/x/y?z=1") == addresses.Target("https", "a.example", 443, "/x/y?z=1")
    assert split("http://[fd00::1]:81") == addresses.Target("http", "fd00::1", 81, "/")
    check("https://a.example/x", ())
    check("http://a.example/x", LOCAL)
    check("http://127.0.0.1:99/x", LOCAL)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def backend(networks=LOCAL, scheme="http", within_s=2.0):
    return CheckedBackend(scheme, networks, time.monotonic() + within_s)


def answers(monkeypatch, *lists):
    """Let each resolution give the next list of addresses."""
    pending = list(lists)
    really = socket.getaddrinfo

    def resolve(host, port, *rest, **more):
        if not host.endswith(".example"):
            return really(host, port, *rest, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in pending.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return pending


def test_the_address_that_was_checked_is_the_one_connected_to(listener, monkeypatch):
    port = listener.getsockname()[1]
    connected = []
    connect = socket.create_connection

    def note(address, *rest, **more):
        connected.append(address)
        return connect(address, *rest, **more)

    monkeypatch.setattr(socket, "create_connection", note)
    left = answers(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    backend().connect_tcp("rebinding.example", port).close()
    assert connected == [("127.0.0.1", port)]
    assert left == [["127.0.0.2"]]


def test_addresses_that_are_not_allowed_are_passed_over(listener, monkeypatch):
    answers(monkeypatch, ["127.0.0.2", "10.0.0.1", "127.0.0.1"], ["127.0.0.2", "10.0.0.1"])
    port = listener.getsockname()[1]
    stream = backend().connect_tcp("both.example", port)
    assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
    stream.close()
    with pytest.raises(AddressRefused):
        backend().connect_tcp("both.example", port)


def test_who_answers_is_looked_at_again(listener, monkeypatch):
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", lambda *_, **__: Elsewhere())
    with pytest.raises(AddressRefused):
        backend().connect_tcp("127.0.0.1", listener.getsockname()[1])
    assert Elsewhere.closed


class Elsewhere(httpcore.NetworkStream):
    closed = False

    def get_extra_info(self, info):
        return ("10.0.0.1", 80)

    def close(self):
        type(self).closed = True


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001"])
def test_a_name_of_this_machine_is_refused(host):
    with pytest.raises((AddressRefused, httpcore.ConnectError)):
        backend(networks=(), scheme="https").connect_tcp(host, 1)


def test_all_reads_end_together(listener):
    def drip():
        connection, _ = listener.accept()
        with connection:
            while True:
                try:
                    connection.sendall(b"x")
                except OSError:
                    return
                time.sleep(0.1)

    def read():
        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        stream = backend(within_s=0.5).connect_tcp("127.0.0.1", listener.getsockname()[1])
        with pytest.raises(httpcore.ReadTimeout):
            _read_to_the_end(stream)
        stream.close()
        thread.join()

    assert ends_within(1.5, read)


def _read_to_the_end(stream):
    while stream.read(1):
        pass
