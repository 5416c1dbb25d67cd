"""Who is looking at the pages. If the service requires keys, a browser signs in with one and gets a cookie.

The cookie holds the key. Scripts cannot read it, no other site can make the browser send it (``SameSite=Strict``), and
the API does not accept it. Revoking the key ends the session at the next request.
"""

from typing import Any, Final

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from jobs.keys import Scope
from service.dependencies import Dependencies
from service.http.auth import LOCAL_CALLER, Caller, caller_of
from service.http.public_url import PublicUrl
from service.http.same_origin import same_site

COOKIE: Final = "backdoor_audit_key"


def _cookie(request: Request) -> tuple[str, dict[str, Any]]:
    """Name and attributes of the cookie, as the address that people use allows.

    A browser keeps a ``__Host-`` cookie only if it came by TLS for this host alone, so no neighbour can plant one.
    Below a prefix the cookie is kept from what lies beside it, which that name does not allow; ``__Secure-`` does.
    """
    public: PublicUrl | None = request.app.state.public
    secure = request.url.scheme == "https" if public is None else public.secure
    prefix = "" if public is None else public.prefix
    first = ("__Secure-" if prefix else "__Host-") if secure else ""
    attributes = {"path": prefix or "/", "secure": secure, "httponly": True, "samesite": "strict"}
    return first + COOKIE, attributes


class NotSignedIn(Exception):
    """The service requires a key, and this browser has no valid one."""


class NotAllowed(Exception):
    """The key lacks the scope, or the request comes from another site; ``caller`` is who is signed in, if known."""

    def __init__(self, reason: str, caller: Caller | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.caller = caller


async def visitor_of(request: Request, scope: Scope) -> Caller:
    """Who is asking for a page that needs ``scope``.

    Raises:
        NotSignedIn: there is no valid key.
        NotAllowed: the key does not have the scope, or the request comes from another site.
        TooManyRequests: the key is over its rate limit.
    """
    refuse_other_sites(request)
    caller = await _caller(request)
    if caller is None:
        raise NotSignedIn
    if not caller.may(scope):
        raise NotAllowed(f"Your key does not have the scope {scope}.", caller)
    return caller


def refuse_other_sites(request: Request) -> None:
    """Refuse a change requested by a page of another site.

    Raises:
        NotAllowed: the request comes from another site.
    """
    public: PublicUrl | None = request.app.state.public
    origin = None if public is None else public.origin
    if request.method != "GET" and not same_site(Headers(scope=request.scope), origin):
        raise NotAllowed("This request came from another site and was refused.")


async def _caller(request: Request) -> Caller | None:
    if not request.app.state.keys_required:
        return LOCAL_CALLER
    dependencies: Dependencies = request.app.state.dependencies
    record = await run_in_threadpool(dependencies.ledger.keys.check, request.cookies.get(_cookie(request)[0], ""))
    if record is None:
        return None
    return caller_of(request, record)


def sign_in(request: Request, response: Response, key: str) -> None:
    """Store the key in a session cookie."""
    name, attributes = _cookie(request)
    response.set_cookie(name, key, **attributes)


def sign_out(request: Request, response: Response) -> None:
    """Delete the cookie."""
    name, attributes = _cookie(request)
    response.delete_cookie(name, **attributes)
