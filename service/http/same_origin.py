"""Keeps web pages of other sites away from a service without keys.

Such a service trusts every process of this machine, and a browser is one of them. A page can make the browser send a
request here in two ways: from its own site (a form, a ``fetch``; the browser says so in ``Sec-Fetch-Site`` or
``Origin``), or under its own host name, made to resolve to 127.0.0.1 (DNS rebinding; ``Host`` has that name).
"""

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from common.problem_type import ProblemType
from service.errors import CrossSiteRequest, UnknownHost
from service.http import problems
from service.http.auth import is_loopback

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_OWN_SITE: Final = frozenset({"same-origin", "none"})


class LoopbackMiddleware:
    """Refuses names that are not this machine's own, and changes requested by a page of another origin."""

    def __init__(self, app: ASGIApp, public_origin: str | None = None) -> None:
        self.app = app
        self.public_origin = public_origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        problem: ProblemType | None = None
        if scope["type"] == "http":
            problem = refusal(scope["method"], Headers(scope=scope), self.public_origin)
        if problem is None:
            await self.app(scope, receive, send)
        else:
            await problems.response(problem)(scope, receive, send)


def refusal(method: str, headers: Headers, public_origin: str | None = None) -> ProblemType | None:
    """What is wrong with a request with these headers; None if nothing is."""
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not is_loopback(_name(hosts[0])):
        return UnknownHost.problem
    if method not in _SAFE and not same_site(headers, public_origin):
        return CrossSiteRequest.problem
    return None


def same_site(headers: Headers, public_origin: str | None = None) -> bool:
    """Whether nothing indicates a request from a page of another origin.

    Our own pages are of the host that was asked, or of the origin that people use: a proxy may ask by another name.
    """
    site = headers.get("sec-fetch-site")
    if site is not None and site not in _OWN_SITE:
        return False
    host = headers.get("host", "").lower()
    return all(_authority(origin) == host or origin.lower() == public_origin for origin in headers.getlist("origin"))


def _name(host: str) -> str:
    """The host without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _authority(origin: str) -> str | None:
    """Host and port of an origin; None for ``null`` and for anything else."""
    scheme, separator, rest = origin.partition("://")
    return rest.lower() if separator and scheme in ("http", "https") else None
