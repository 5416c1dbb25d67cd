"""Which addresses a webhook may connect to: none in the operator's own network, unless the operator allows it.

Whoever registers an address chooses where this service connects to from inside its network. So a name is resolved here,
each address is checked, and the connection is made to exactly the address that was checked: a name that resolves
differently the next time (DNS rebinding) gains nothing.
"""

import ipaddress
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore

from service.errors import ErrorItem, InvalidRequest
from service.webhooks.resolving import addresses_of

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORTS: Final = {"http": 80, "https": 443}
_TRANSLATED: Final = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
"""Ranges whose addresses contain an IPv4 address that a gateway would forward to (NAT64, 6to4, Teredo)."""


class AddressRefused(Exception):
    """The name resolves to no address that a webhook may connect to."""


@dataclass(frozen=True)
class Target:
    """The parts of a webhook's address; ``target`` is path and query."""

    scheme: str
    host: str
    port: int
    target: str


def split(url: str) -> Target:
    """The parts of ``url``.

    Raises:
        ValueError: it is not a valid webhook address; the message says why without repeating it.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("must be an https:// address, in ASCII and without spaces")
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("must name a host, and have neither a password nor a fragment")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has an invalid port") from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, _PORTS[parts.scheme] if port is None else port, target)


def check(url: str, networks: Sequence[Network]) -> None:
    """Refuse at registration what could never be sent. Names are not resolved here: they may resolve differently later.

    Raises:
        InvalidRequest: under ``#/url``.
    """
    try:
        target = split(url)
        if target.scheme == "http" and not networks:
            raise ValueError("must begin with https://")
        try:
            literal: Address | None = ipaddress.ip_address(target.host.split("%")[0])
        except ValueError:
            literal = None
        if literal is not None and not permitted(literal, target.scheme, networks):
            raise ValueError("is an address that this service does not connect to")
    except ValueError as error:
        raise InvalidRequest(errors=[ErrorItem("body", "#/url", str(error))]) from None


def permitted(address: Address, scheme: str, networks: Iterable[Network]) -> bool:
    """Return whether a message may go there: over TLS to public addresses, and anyhow to the operator's own list."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address.version == network.version and address in network for network in networks):
        return True
    if scheme != "https" or not address.is_global or address.is_multicast:
        return False
    return not any(address.version == network.version and address in network for network in _TRANSLATED)


class CheckedBackend(httpcore.NetworkBackend):
    """Connects only to permitted addresses, and lets nothing take longer than until ``ends_at`` (monotonic clock)."""

    def __init__(self, scheme: str, networks: Sequence[Network], ends_at: float) -> None:
        self._scheme = scheme
        self._networks = networks
        self._ends_at = ends_at

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve, check, and connect to the first permitted address that responds.

        Raises:
            AddressRefused: none of the addresses is permitted.
            httpcore.ConnectError, httpcore.ConnectTimeout: the name cannot be resolved, or none of its addresses
                responds.
        """
        allowed = [address for address in addresses_of(host, port, self._ends_at) if self._permits(address)]
        if not allowed:
            raise AddressRefused
        last: Exception = httpcore.ConnectTimeout("no time is left")
        for address in allowed:
            try:
                stream = httpcore.SyncBackend().connect_tcp(address, port, timeout=remaining(self._ends_at))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
                continue
            return self._checked(stream)
        raise last

    def _checked(self, stream: httpcore.NetworkStream) -> httpcore.NetworkStream:
        """Check the address that we are actually connected to once more: whatever was requested, this is who
        responds.
        """
        if not self._permits(stream.get_extra_info("server_addr")[0]):
            stream.close()
            raise AddressRefused
        return TimedStream(stream, self._ends_at)

    def _permits(self, address: str) -> bool:
        return permitted(ipaddress.ip_address(address.split("%")[0]), self._scheme, self._networks)


class TimedStream(httpcore.NetworkStream):
    """A stream whose reads and writes all end at ``ends_at``: sending a response one byte at a time does not circumvent
    it.
    """

    def __init__(self, stream: httpcore.NetworkStream, ends_at: float) -> None:
        self._stream = stream
        self._ends_at = ends_at

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read within the time that is left."""
        return self._stream.read(max_bytes, remaining(self._ends_at))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write within the time that is left."""
        self._stream.write(buffer, remaining(self._ends_at))

    def close(self) -> None:
        """Close."""
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Shake hands within the time that is left."""
        secured = self._stream.start_tls(ssl_context, server_hostname, remaining(self._ends_at))
        return TimedStream(secured, self._ends_at)

    def get_extra_info(self, info: str) -> Any:
        """Extra information from the underlying stream."""
        return self._stream.get_extra_info(info)


def remaining(ends_at: float) -> float:
    """Seconds until ``ends_at``.

    Raises:
        httpcore.ReadTimeout: there are none left.
    """
    left = ends_at - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("no time is left")
    return left
