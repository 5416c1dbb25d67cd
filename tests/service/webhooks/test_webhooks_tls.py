"""Webhooks over real TLS: an authority of our own, certificates that hold and certificates that do not."""

import ipaddress

import pytest
from cryptography import x509
from standardwebhooks import Webhook

from service.errors import StartupError
from service.webhooks.trust import context_of
from tests.certificates import DAY, LOCALHOST, NOW, Authority
from tests.service.webhooks.test_row_16_webhooks import errors, register, settled, target

__all__ = ["target"]


def serve_tls(authority, receiver, *names, ends=NOW + DAY):
    """Let a receiver speak TLS with a certificate for these names."""
    port = receiver.server.server_port
    # The handshake is the request's thread's affair, so that one that breaks does not end the server.
    receiver.server.socket = authority.server_context(f"receiver-{port}.pem", *names, ends=ends).wrap_socket(
        receiver.server.socket, server_side=True, do_handshake_on_connect=False
    )
    receiver.server.handle_error = lambda *_: None
    return f"https://localhost:{port}/hook"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "ours")


def start(serve, **options):
    return serve(webhook_networks=["127.0.0.1/32", "::1/128"], webhook_timeout_s=5, webhook_retry_s=[0.05], **options)


def test_an_authority_of_our_own_is_trusted_where_it_is_named(serve, target, authority):
    receiver = target(204)
    url = serve_tls(authority, receiver, LOCALHOST, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    served = start(serve, webhook_ca_file=authority.file)
    by_name, by_address = register(served, url), register(served, url.replace("localhost", "127.0.0.1"))
    served.succeed(served.file())
    for webhook in (by_name, by_address):
        (delivery,) = settled(served, webhook)
        assert (delivery["state"], errors(delivery)) == ("delivered", [None])
    keys = {webhook["secret"] for webhook in (by_name, by_address)}
    assert len(receiver.received) == len(keys) == 2
    for headers, body, _ in receiver.received:
        small = {name.lower(): value for name, value in headers.items()}
        assert sum(_verifies(key, body, small) for key in keys) == 1


def _verifies(key, body, headers):
    try:
        Webhook(key).verify(body, headers)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("fault", ["unknown authority", "another authority", "another name", "expired"])
def test_a_certificate_that_does_not_hold_gets_nothing(serve, target, authority, tmp_path, fault):
    receiver = target(204)
    name = x509.DNSName("elsewhere.example") if fault == "another name" else LOCALHOST
    url = serve_tls(authority, receiver, name, ends=NOW - DAY if fault == "expired" else NOW + DAY)
    other = Authority(tmp_path, "other")
    options = {"unknown authority": {}, "another authority": {"webhook_ca_file": other.file}}
    served = start(serve, **options.get(fault, {"webhook_ca_file": authority.file}))
    webhook = register(served, url)
    audit_id = served.file()
    served.succeed(audit_id)
    (delivery,) = settled(served, webhook)
    assert (delivery["state"], errors(delivery)) == ("failed", ["certificate"] * 2)
    assert receiver.received == []
    assert served.http.get(f"/audits/{audit_id}").json()["status"] == "succeeded"


def test_a_file_without_certificates_is_refused_at_the_start(tmp_path):
    (tmp_path / "empty.pem").write_text("no certificate")
    for name in ("empty.pem", "nothing.pem"):
        with pytest.raises(StartupError, match="WEBHOOK_CA_FILE") as caught:
            context_of(tmp_path / name)
        assert str(tmp_path) not in str(caught.value)
