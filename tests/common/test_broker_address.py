"""One reading of a broker's address, whatever library connects."""

import ssl
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection

from common.broker_address import parse_broker_url
from common.settings import CommonSettings, InvalidSettings


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis://broker", "redis://broker:6379/0"),
        ("redis://broker:1/", "redis://broker:1/0"),
        ("redis://:pa%2Fss@broker/3", "redis://:pa%2Fss@broker:6379/3"),
        ("redis://me:p@[::1]:7/3", "redis://me:p@[::1]:7/3"),
        ("rediss://broker", "rediss://broker:6379/0"),
        ("redis+socket:///a/s", "redis+socket:///a/s?virtual_host=0"),
        ("redis+socket:///a/s?virtual_host=2", "redis+socket:///a/s?virtual_host=2"),
        ("redis+socket:///a/s?virtual_host=/2", "redis+socket:///a/s?virtual_host=2"),
        ("redis+socket://me:p%40@/a%20b/s", "redis+socket://me:p%40@/a%20b/s?virtual_host=0"),
    ],
)
def test_an_address_is_completed(text: str, url: str) -> None:
    assert parse_broker_url(text).url == url
    assert parse_broker_url(url).url == url


@pytest.mark.parametrize("text", ["redis://broker/0?", "rediss://broker?ssl_cert_reqs=none&", "redis+socket:///s?"])
def test_all_forms_take_a_prefix_of_the_keys(text: str) -> None:
    assert parse_broker_url(f"{text}key_prefix=audits.team-1:").key_prefix == "audits.team-1:"
    assert "key_prefix" not in parse_broker_url(f"{text}key_prefix=a").url
    assert parse_broker_url("redis://broker").key_prefix == ""


@pytest.mark.parametrize(
    ("options", "tls"),
    [
        ("", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        ("?ssl_cert_reqs=CERT_REQUIRED", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        ("?ssl_cert_reqs=required", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        ("?ssl_cert_reqs=CERT_OPTIONAL", {"ssl_cert_reqs": ssl.CERT_OPTIONAL}),
        ("?ssl_cert_reqs=none", {"ssl_cert_reqs": ssl.CERT_NONE}),
        (
            "?ssl_ca_certs=/a%20b.pem&ssl_check_hostname=false&ssl_certfile=/c&ssl_keyfile=/k",
            {
                "ssl_cert_reqs": ssl.CERT_REQUIRED,
                "ssl_ca_certs": "/a b.pem",
                "ssl_check_hostname": False,
                "ssl_certfile": "/c",
                "ssl_keyfile": "/k",
            },
        ),
    ],
)
def test_tls_verifies_unless_it_is_told_not_to(options: str, tls: dict[str, object]) -> None:
    address = parse_broker_url(f"rediss://broker/1{options}")
    assert address.tls == tls
    assert address.url == "rediss://broker:6379/1"
    assert parse_broker_url("redis://broker/1").tls is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be redis://"),
        ("secret", "must be redis://"),
        ("amqp://secret@broker", "must be redis://"),
        ("unix:///secret", "must be redis://"),
        ("redis://", "must be redis://"),
        ("redis://broker:secret/0", "percent-encoded"),
        ("redis://me:secret#1@broker/0", "percent-encoded"),
        ("redis://broker/0#secret", "%23"),
        ("redis://me:secret/@broker/0", "percent-encoded"),
        ("redis://broker/secret", "must be a number"),
        ("redis://broker/-1", "must be a number"),
        ("redis://broker?ssl_cert_reqs=required", "ssl_cert_reqs in the broker's address needs rediss://"),
        ("rediss://broker?ssl_cert_reqs=secret", "ssl_cert_reqs in the broker's address must be required or optional"),
        ("rediss://broker?ssl_check_hostname=secret", "ssl_check_hostname in the broker's address must be true or"),
        ("rediss://broker?ssl_ca_certs=", "ssl_ca_certs in the broker's address must be a file"),
        ("rediss://broker?ssl_ca_cert=/secret", "not known; rediss:// takes ssl_ca_certs"),
        ("redis://broker?key_prefix=secret*", "key_prefix in the broker's address must be"),
        ("redis://broker?key_prefix=" + "secret" * 20, "key_prefix in the broker's address must be"),
        ("rediss://broker?secret", "percent-encoded"),
        ("redis+socket://secret/s", "absolute path"),
        ("redis+socket://", "absolute path"),
    ],
)
def test_what_cannot_be_read_is_refused_when_a_process_starts(text: str, said: str) -> None:
    with pytest.raises(InvalidSettings, match="BACKDOOR_AUDIT_BROKER_URL") as refused:
        CommonSettings.load(data_dir="/data", models_root="/models", broker_url=text)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@given(user=st.none() | words, password=words, number=st.integers(0, 99), socket=st.booleans())
def test_the_transport_reads_what_we_read(user: str | None, password: str, number: int, socket: bool) -> None:
    secret = f"{quote(user or '', safe='')}:{quote(password, safe='')}@"
    text = f"redis+socket://{secret}/a/s?virtual_host={number}" if socket else f"redis://{secret}broker:7/{number}"
    with Connection(parse_broker_url(text).url) as connection:
        parameters = _parameters(connection)
    assert (parameters["username"] or None, parameters["password"], parameters["db"]) == (user, password, number)
    assert (parameters.get("path"), parameters.get("host")) == (("/a/s", None) if socket else (None, "broker"))


def _parameters(connection: Connection) -> dict[str, object]:
    """What the transport would connect with; it does not."""
    transport = connection.transport
    channel = transport.Channel.__new__(transport.Channel)
    channel.connection = transport
    return dict(channel._connparams())
