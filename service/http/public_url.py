"""The address that people use, where a proxy stands in between: it decides about links, cookies and accepted origins.

Nothing that a request says of itself (``Host``, ``X-Forwarded-…``) is believed: the operator names the address.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_prefix: ContextVar[str] = ContextVar("public_prefix", default="")


@dataclass(frozen=True)
class PublicUrl:
    """A parsed ``PUBLIC_URL``.

    Attributes:
        secure: whether browsers reach the service by TLS.
        origin: what they send as ``Origin``: scheme and authority, the scheme's own port left out.
        prefix: the path below which the service lies, without a slash at its end; empty at the root.
    """

    secure: bool
    origin: str
    prefix: str

    @classmethod
    def of(cls, url: str) -> "PublicUrl":
        """Read a URL.

        Raises:
            ValueError: it is none.
        """
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        host = f"[{host}]" if ":" in host else host
        port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
        return cls(parts.scheme == "https", f"{parts.scheme}://{host}{port}", parts.path.rstrip("/"))


def link(path: str) -> str:
    """The path under which people reach ``path`` of the service."""
    return _prefix.get() + path


class PrefixMiddleware:
    """Has links begin with the public prefix, and takes it off the paths of a proxy that leaves it on."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"].startswith(f"{self.prefix}/"):
            scope = dict(scope)
            scope["path"] = scope["path"].removeprefix(self.prefix)
            scope["raw_path"] = scope.get("raw_path", b"").removeprefix(self.prefix.encode())
        token = _prefix.set(self.prefix)
        try:
            await self.app(scope, receive, send)
        finally:
            _prefix.reset(token)
