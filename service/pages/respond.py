"""Responds with a page: the view's own, the sign-in page, or one that explains an error."""

import uuid
from collections.abc import Callable, Mapping

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse

from common.problem_type import INTERNAL
from jobs.errors import InvalidPageToken
from jobs.keys import Scope
from service.http import problems
from service.http.auth import Caller
from service.http.public_url import link
from service.pages.form_data import read_form
from service.pages.rendering import HEADERS, page
from service.pages.session import NotAllowed, NotSignedIn, refuse_other_sites, visitor_of

View = Callable[[Caller], Response]
FormView = Callable[[Caller, dict[str, str]], Response]


async def show(request: Request, scope: Scope, view: View) -> Response:
    """Run a view for the visitor in a thread; an error becomes a page, too."""
    return await _show(request, scope, lambda caller, _values: view(caller))


async def show_form(request: Request, scope: Scope, view: FormView) -> Response:
    """The same for a view that receives a form's fields."""
    return await _show(request, scope, view, form=True)


async def show_public(request: Request, view: Callable[[Caller | None], Response]) -> Response:
    """The same for a page that anybody may read; a visitor who has signed in keeps their menu."""
    try:
        caller: Caller | None = await visitor_of(request, "audits:read")
    except (NotSignedIn, NotAllowed):
        caller = None
    return await run_in_threadpool(view, caller)


async def show_open(request: Request, view: Callable[[dict[str, str]], Response]) -> Response:
    """The same for the forms that need no session: sign in and sign out."""
    try:
        refuse_other_sites(request)
        return await run_in_threadpool(view, await read_form(request))
    except NotAllowed as error:
        return trouble(request, 403, "Not allowed", error.reason)
    except ClientDisconnect:
        raise
    except Exception as error:
        return _trouble_of(request, error, None)


async def _show(request: Request, scope: Scope, view: FormView, *, form: bool = False) -> Response:
    caller: Caller | None = None
    try:
        caller = await visitor_of(request, scope)
        values = await read_form(request) if form else {}
        return await run_in_threadpool(view, caller, values)
    except NotSignedIn:
        return page(request, "sign_in.html", status=401, fault="")
    except NotAllowed as error:
        return trouble(request, 403, "Not allowed", error.reason, error.caller)
    except ClientDisconnect:
        raise
    except Exception as error:
        return _trouble_of(request, error, caller)


def _trouble_of(request: Request, error: Exception, caller: Caller | None) -> Response:
    """The page for an error, in the words of the API's problem."""
    problem = problems.problem_of(error)
    title, text = problem.title, problems.detail_of(error)
    if isinstance(error, InvalidPageToken):
        title, text = "Page not found", "The filters of this list have changed. Start again from its first page."
    if problem is INTERNAL:
        instance = uuid.uuid4().urn
        problems.log_internal(error, instance=instance)
        text = f"Something went wrong. Details are in the service's log under {instance}."
    headers = problems.headers_of(error)
    if problem.code in problems.RETRY_AFTER_S:
        headers = {"Retry-After": str(problems.RETRY_AFTER_S[problem.code])} | headers
    return trouble(request, problems.STATUSES[problem.code], title, text, caller, headers)


def trouble(
    request: Request,
    status: int,
    title: str,
    text: str,
    caller: Caller | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A page that says what went wrong and links back to the audits."""
    return page(request, "trouble.html", status=status, headers=headers, title=title, text=text, visitor=caller)


def see(path: str) -> Response:
    """Redirect the browser to another page, as after a form was accepted."""
    return RedirectResponse(link(path), status_code=303, headers=HEADERS)


def saved(content: bytes, media_type: str, name: str) -> Response:
    """A file for the browser to save under this name."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(content, media_type=media_type, headers=headers)
