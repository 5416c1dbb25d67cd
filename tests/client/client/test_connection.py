"""Values from outside that become headers, and the words for each way in which no answer comes."""

import datetime
import socket
import ssl
import threading

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backdoor_audit.cli.main import run
from backdoor_audit.client import calls, outages
from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.client.connection import address, options
from backdoor_audit.client.errors import Unreachable, WrongUsage
from backdoor_audit.client.retry import RetryPolicy

ONCE = RetryPolicy(attempts=1)
SPEC = {"base_model": "local:a", "fine_tuned": "local:b", "trigger": {"triggered": "a", "clean": "b"}}


def unreachable(url):
    with AuditClient(url, retry=ONCE, timeout_s=5) as client, pytest.raises(Unreachable) as raised:
        client.models()
    return f"{raised.value.message} {raised.value.hint}"


@pytest.mark.parametrize("around", ["{}\n", " {}\r\n", "\t{}"])
def test_white_space_around_a_secret_is_no_part_of_it(around):
    assert options(around.format("ba_key"), 1)["headers"]["Authorization"] == "Bearer ba_key"
    assert calls.submit(SPEC, around.format("job-1")).headers["Idempotency-Key"] == "job-1"
    assert address(around.format("http://127.0.0.1:1/")).base == "http://127.0.0.1:1"


@pytest.mark.parametrize("value", ["schlüssel", "a\nb", "a\x00b", " \n"])
def test_what_no_header_takes_is_wrong_usage_and_names_where_it_is_set(monkeypatch, capfd, free_port, value):
    with pytest.raises(WrongUsage, match="--idempotency-key"):
        calls.submit(SPEC, value)
    if "\0" not in value:
        monkeypatch.setenv("BACKDOOR_AUDIT_API_KEY", value)
        assert run(["--url", f"http://127.0.0.1:{free_port}", "models", "list"]) == 4
        said = capfd.readouterr().err
        assert "BACKDOOR_AUDIT_API_KEY" in said
        assert value.strip() == "" or value not in said


def test_a_refused_connection_and_a_missing_socket(free_port):
    assert "nothing listens there" in unreachable(f"http://127.0.0.1:{free_port}")
    missing = httpx.ConnectError("x")
    missing.__cause__ = FileNotFoundError()
    assert "nothing listens there" in outages.reason(missing)[0]


def test_a_name_that_nobody_knows():
    assert "DNS" in unreachable("http://nowhere.invalid:1")


def test_a_proxy_that_refuses(monkeypatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with Answering(b"HTTP/1.1 403 no\r\nContent-Length: 0\r\n\r\n") as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        assert "HTTPS_PROXY" in unreachable("https://service.invalid")


def test_http_where_tls_was_expected():
    with Answering(b"HTTP/1.1 400 no\r\nContent-Length: 0\r\n\r\n") as port:
        assert "TLS" in unreachable(f"https://127.0.0.1:{port}")


def test_a_certificate_that_nobody_vouches_for(tmp_path):
    with Answering(b"", context=_self_signed(tmp_path)) as port:
        said = unreachable(f"https://127.0.0.1:{port}")
    assert "certificate" in said
    assert "SSL_CERT_FILE" in said


class Answering:
    """A server on this machine that gives one answer to whatever comes."""

    def __init__(self, answer, context=None):
        self._answer, self._context = answer, context

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._run, daemon=True).start()
        return self._listener.getsockname()[1]

    def __exit__(self, *error):
        self._listener.close()

    def _run(self):
        while True:
            try:
                connection, _ = self._listener.accept()
                with connection:
                    if self._context is not None:
                        connection = self._context.wrap_socket(connection, server_side=True)
                    connection.recv(65536)
                    connection.sendall(self._answer)
            except ssl.SSLError:
                continue
            except OSError:
                if self._listener.fileno() < 0:
                    return


def _self_signed(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now.replace(year=now.year + 1)
    )
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(pem + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context
