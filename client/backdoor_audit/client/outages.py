"""Why no answer came, in words that lead to what has to be mended."""

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
            "is the host's name right? for a private authority, set SSL_CERT_FILE to its certificates",
        )
    if caused_by(ssl.SSLError):
        return "TLS could not be agreed on", "does it speak https there, or http?"
    if isinstance(error, httpx.ProxyError):
        return "the proxy did not let it through", "look at HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
    if caused_by(socket.gaierror):
        return "the host's name is not known", "look at the address, at DNS, and at the proxy's address if there is one"
    if caused_by(ConnectionRefusedError) or caused_by(FileNotFoundError):
        return "nothing listens there", _START
    if isinstance(error, httpx.ConnectTimeout):
        return "no connection in time", "does a firewall or a proxy stand between?"
    if isinstance(error, httpx.TimeoutException):
        return "it took too long", "it is there, but busy or stuck; try again later"
    if isinstance(error, httpx.RemoteProtocolError):
        return "the connection ended without an answer in HTTP", "does it speak https there, or is it another service?"
    return type(error).__name__, _START


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it; a group stands for its members."""
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
