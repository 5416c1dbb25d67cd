"""The connection code that both clients share: address, headers, translation of errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from backdoor_audit.client import outages
from backdoor_audit.client.call import Call, Received
from backdoor_audit.client.errors import UnexpectedAnswer, Unreachable, WrongUsage
from backdoor_audit.client.headers import header_value

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True)
class Address:
    """Where the service is; ``direct`` means that proxies named in the environment are ignored."""

    base: str
    socket: str | None
    direct: bool


def address(url: str) -> Address:
    """Read ``http(s)://host:port`` or ``unix:///path/of/the.socket``.

    Raises:
        WrongUsage: it is neither.
    """
    url = url.strip()
    if not url.isprintable():
        raise WrongUsage("the address holds control characters", hint="set --url or BACKDOOR_AUDIT_URL again")
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise WrongUsage(f"not an address: {url}") from error
    if parts.scheme == "unix" and parts.path:
        return Address("http://localhost", parts.path, True)
    if parts.scheme not in ("http", "https") or not host:
        raise WrongUsage(f"not an address: {url}", hint="http://host:port, https://host, or unix:///path/of/the.socket")
    if parts.username or parts.password:
        raise WrongUsage("the address holds a password", hint="set BACKDOOR_AUDIT_API_KEY instead")
    return Address(url.rstrip("/"), None, host in _LOOPBACK)


def options(api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Options of an httpx client, blocking or not."""
    headers = {"Accept": "application/json", "User-Agent": "backdoor-audit-client"}
    if api_key:
        headers["Authorization"] = f"Bearer {header_value(api_key, 'the API key (BACKDOOR_AUDIT_API_KEY)')}"
    return {
        "headers": headers,
        "timeout": httpx.Timeout(timeout_s, connect=min(5.0, timeout_s)),
        "follow_redirects": False,  # a redirect would send the key elsewhere
    }


def request(call: Call[Any]) -> dict[str, Any]:
    """Arguments of ``httpx.Client.request`` for a call."""
    return {
        "method": call.method,
        "url": call.path,
        "params": dict(call.params) or None,
        "headers": dict(call.headers),
        "content": call.body,
    }


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn httpx's errors into the client's own."""
    try:
        yield
    except httpx.TransportError as error:
        why, hint = outages.reason(error)
        raise Unreachable(f"no answer from {url}: {why}", hint=hint) from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise UnexpectedAnswer(f"the response from {url} could not be read ({type(error).__name__})") from error


def received(url: str, response: httpx.Response) -> Received:
    """The response as a value that does not depend on httpx.

    Raises:
        UnexpectedAnswer: it is a redirect.
    """
    if 300 <= response.status_code < 400 and response.status_code != 304:
        raise UnexpectedAnswer(f"{url} redirects elsewhere", hint="use the address that it redirects to")
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Received(response.status_code, headers, response.content)
