"""Why there was no response, in words that point to what must be fixed."""

import socket
import ssl
from collections.abc import Iterator

import httpx

_START = "is it running? to start one: backdoor-audit serve"


def reason(error: httpx.TransportError) -> tuple[str, str]:
    """What went wrong, and a hint."""
    causes = list(_causes(error))

    def caused_by(kind: type[BaseException]) -> BaseException | None:
        return next((cause for cause in causes if isinstance(cause, kind)), None)

    if untrusted := caused_by(ssl.SSLCertVerificationError):
        said = getattr(untrusted, "verify_message", "") or "unknown reason"
        return (
            f"its certificate is not trusted ({said})",
            "is the host name right? for a private authority, set SSL_CERT_FILE to its certificates",
        )
    if caused_by(ssl.SSLError):
        return "the TLS handshake failed", "does it speak https there, or http?"
    if isinstance(error, httpx.ProxyError):
        return "the proxy refused the request", "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
    if caused_by(socket.gaierror):
        return "the host name is unknown", "check the address, DNS, and the proxy's address if there is one"
    if caused_by(ConnectionRefusedError) or caused_by(FileNotFoundError):
        return "nothing listens there", _START
    if isinstance(error, httpx.ConnectTimeout):
        return "the connection timed out", "is there a firewall or a proxy in between?"
    if isinstance(error, httpx.TimeoutException):
        return "the response took too long", "the service is busy or stuck; try again later"
    if isinstance(error, httpx.RemoteProtocolError):
        return "the connection ended without an HTTP response", "does it speak https there, or is it another service?"
    return type(error).__name__, _START


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes; a group stands for its members."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        pending += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions
