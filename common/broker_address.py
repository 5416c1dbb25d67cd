"""The broker's address: read here and nowhere else, so that all that connect go to one place in one way."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_FORMS: Final = "redis://host:port/number, rediss://host:port/number or redis+socket:///path"
_PORT: Final = 6379
_VERIFY: Final = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_FILES: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_KEY_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_TLS_OPTIONS: Final = frozenset({"ssl_cert_reqs", "ssl_check_hostname"}) | _FILES


@dataclass(frozen=True)
class BrokerAddress:
    """An address as the transport takes it.

    Attributes:
        url: scheme, user, place and number of the database, each percent-encoded; may hold a password.
        tls: the transport's arguments for TLS, certificates being verified unless it says otherwise; None without TLS.
        key_prefix: what every key begins with, for a broker that others use as well.
    """

    url: str = field(repr=False)
    tls: Mapping[str, Any] | None
    key_prefix: str = ""


def parse_broker_url(text: str) -> BrokerAddress:
    """Read ``redis://…``, ``rediss://…`` (TLS) or ``redis+socket:///path``.

    ``rediss`` takes ``ssl_cert_reqs`` (required, optional or none, or Python's names: CERT_REQUIRED …),
    ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile`` and ``ssl_check_hostname``; a socket takes ``virtual_host``, the
    number of the database. All take ``key_prefix``.

    Raises:
        ValueError: it is none of these, or has an option that is not known or not valid. Values are not repeated.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError(f"this is no address of a broker; write {_FORMS}, other characters percent-encoded") from None
    if parts.fragment:
        raise ValueError("a # in the broker's address must be written %23")
    user = _user(parts.username, parts.password)
    prefix = _key_prefix(options)
    if parts.scheme == "redis+socket":
        if parts.hostname or not parts.path.strip("/"):
            raise ValueError("a broker's socket needs an absolute path: redis+socket:///path")
        number = _number(options.pop("virtual_host", "0"))
        _refuse(options)
        return BrokerAddress(f"redis+socket://{user}{quote(unquote(parts.path))}?virtual_host={number}", None, prefix)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError(f"the broker's address must be {_FORMS}")
    tls = _tls(options) if parts.scheme == "rediss" else None
    _refuse(options)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return BrokerAddress(f"{parts.scheme}://{user}{host}:{port or _PORT}/{_number(parts.path)}", tls, prefix)


def _user(name: str | None, password: str | None) -> str:
    if not name and not password:
        return ""
    secret = f":{quote(unquote(password), safe='')}" if password else ""
    return f"{quote(unquote(name or ''), safe='')}{secret}@"


def _key_prefix(options: dict[str, str]) -> str:
    """Take the prefix of the keys out of ``options``."""
    prefix = options.pop("key_prefix", "")
    if prefix and not _KEY_PREFIX.fullmatch(prefix):
        raise ValueError("key_prefix in the broker's address must be 1 to 64 letters, digits or any of _.:-")
    return prefix


def _number(text: str) -> int:
    number = text.strip("/") or "0"
    if not number.isascii() or not number.isdigit():
        raise ValueError("the broker's database must be a number, as in redis://host:port/0")
    return int(number)


def _tls(options: dict[str, str]) -> dict[str, Any]:
    """Take the options of TLS out of ``options``."""
    tls: dict[str, Any] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    for name in _TLS_OPTIONS & set(options):
        value = options.pop(name)
        if name in _FILES:
            known: Any = value or None
            wanted = "a file"
        elif name == "ssl_cert_reqs":
            known = _VERIFY.get(value.lower().removeprefix("cert_"))
            wanted = " or ".join(_VERIFY)
        else:
            known = _BOOLEANS.get(value.lower())
            wanted = "true or false"
        if known is None:
            raise ValueError(f"{name} in the broker's address must be {wanted}")
        tls[name] = known
    return tls


def _refuse(options: Mapping[str, str]) -> None:
    for name in options:
        if name in _TLS_OPTIONS:
            raise ValueError(f"{name} in the broker's address needs rediss://")
        known = ", ".join(sorted(_TLS_OPTIONS))
        raise ValueError(
            f"the broker's address has an option that is not known; rediss:// takes {known}, and all take key_prefix"
        )
