"""Who looks at the pages. Where the service needs keys, a browser signs in with one and gets a cookie.

The cookie holds the key. Scripts cannot read it, no other site can make the browser send it (``SameSite=Strict``), and
the API does not take it: a page elsewhere gains nothing from it. A revoked key ends the sign-in with the next request.
"""

from typing import Final

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from jobs.keys import Scope
from service.dependencies import Dependencies
from service.http.auth import LOCAL_CALLER, Caller, caller_of
from service.http.same_origin import same_site

COOKIE: Final = "backdoor_audit_key"


class NotSignedIn(Exception):
    """The service needs a key, and this browser has none that is let in."""


class NotAllowed(Exception):
    """The key lacks the scope, or another site asks; ``caller`` is who is signed in, where that is known."""

    def __init__(self, reason: str, caller: Caller | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.caller = caller


async def visitor_of(request: Request, scope: Scope) -> Caller:
    """Who asks for a page that needs ``scope``.

    Raises:
        NotSignedIn, NotAllowed: as their names say.
        TooManyRequests: the key has made as many requests as it may.
    """
    refuse_other_sites(request)
    caller = await _caller(request)
    if caller is None:
        raise NotSignedIn
    if not caller.may(scope):
        raise NotAllowed(f"Your key does not have the scope {scope}.", caller)
    return caller


def refuse_other_sites(request: Request) -> None:
    """Refuse a change that a page of another site asks for.

    Raises:
        NotAllowed: one does.
    """
    if request.method != "GET" and not same_site(Headers(scope=request.scope)):
        raise NotAllowed("This was asked for by a page of another site, and was not done.")


async def _caller(request: Request) -> Caller | None:
    if not request.app.state.keys_required:
        return LOCAL_CALLER
    dependencies: Dependencies = request.app.state.dependencies
    record = await run_in_threadpool(dependencies.ledger.keys.check, request.cookies.get(COOKIE, ""))
    if record is None:
        return None
    return caller_of(request, record)


def sign_in(request: Request, response: Response, key: str) -> None:
    """Let the browser keep the key for the session."""
    response.set_cookie(COOKIE, key, httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/")


def sign_out(response: Response) -> None:
    """Let the browser forget it."""
    response.delete_cookie(COOKIE, path="/")
