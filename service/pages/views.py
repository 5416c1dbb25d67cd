"""The pages and what their forms do."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from audit.report import AuditReport
from audit.spec import TERMINAL
from jobs.errors import (
    AuditNotFound,
    AuditNotTerminal,
    InvalidPageToken,
    KeyNotFound,
    LedgerError,
    LibraryNotFound,
    ReportNotReady,
)
from jobs.keys import SCOPES, Scope
from jobs.records import AuditRecord, Library
from models_store.errors import StoreError
from service.access import Caller
from service.errors import InvalidRequest, ServiceError
from service.pages import comparing, forms, searching
from service.pages.rendering import HEADERS, page, static
from service.pages.visitors import NotAllowed, NotSignedIn, sign_in, sign_out, visitor_of
from service.reports import formats, words
from service.routes import audits as calls
from service.routes import events
from service.routes.reports import subject_of
from service.services import Services, ServicesDep

router = APIRouter(include_in_schema=False)

_PAGE_SIZE: Final = 25
View = Callable[[Caller], Response]


async def _show(request: Request, scope: Scope, view: View) -> Response:
    """Run a view for whoever asks, in a thread; what goes wrong becomes a page too."""
    try:
        caller = await visitor_of(request, scope)
    except NotSignedIn:
        return page(request, "sign_in.html", status=401, fault="")
    except NotAllowed as error:
        return _trouble(request, 403, "Not allowed", error.reason)
    try:
        return await run_in_threadpool(view, caller)
    except (AuditNotFound, LibraryNotFound, KeyNotFound):
        return _trouble(request, 404, "Not found", "There is nothing under this address that you can see.", caller)
    except ReportNotReady:
        return _trouble(request, 409, "No report", "This audit has no report, or none yet.", caller)
    except AuditNotTerminal:
        return _trouble(request, 409, "Still running", "This audit has not ended. Cancel it first.", caller)
    except InvalidPageToken:
        return _trouble(
            request, 422, "No such page", "This list has changed its filters; start at its first page.", caller
        )
    except ServiceError as error:
        return _trouble(request, 422, "Not accepted", str(error) or "The service did not accept this.", caller)
    except (LedgerError, StoreError):
        return _trouble(request, 503, "Out of order", "A part of the service does not answer. Try again soon.", caller)


def _trouble(request: Request, status: int, title: str, text: str, caller: Caller | None = None) -> Response:
    return page(request, "trouble.html", status=status, title=title, text=text, visitor=caller)


def _see(path: str) -> Response:
    return RedirectResponse(path, status_code=303, headers=HEADERS)


@router.get("/")
async def list_page(request: Request, services: ServicesDep) -> Response:
    """The audits, newest first, filtered, searched, paged."""
    asked = {name: request.query_params.get(name, "") for name in ("status", "verdict", "q", "page_token")}

    def view(caller: Caller) -> Response:
        found = searching.page_of(services.ledger, caller.owner, _PAGE_SIZE, **asked)
        return page(request, "list.html", visitor=caller, found=found, asked=asked)

    return await _show(request, "audits:read", view)


@router.get("/ui/new")
async def new_page(request: Request, services: ServicesDep) -> Response:
    """The form for a new audit; ``?like=ID`` fills it from an earlier one."""
    like = request.query_params.get("like", "")

    def view(caller: Caller) -> Response:
        filled = forms.Filled()
        if like:
            filled = forms.Filled(forms.values_of(services.ledger.get(like, owner=caller.owner).spec))
        return _form(request, services, caller, filled, 200)

    return await _show(request, "audits:write", view)


@router.post("/ui/new")
async def file_audit(request: Request, services: ServicesDep) -> Response:
    """File what the form asks for, or show it again with its faults."""
    values = await forms.read_form(request)

    def view(caller: Caller) -> Response:
        spec = forms.spec_from(values)
        if isinstance(spec, forms.Filled):
            return _form(request, services, caller, spec, 422)
        try:
            filed = calls.create_audit(Response(), services, caller.owner, spec)
        except InvalidRequest as error:
            faults = {"library" if "library" in item.pointer else "": [item.detail] for item in error.errors}
            return _form(request, services, caller, forms.Filled(forms.DEFAULTS | values, faults), 422)
        return _see(f"/ui/audits/{filed.id}")

    return await _show(request, "audits:write", view)


def _form(request: Request, services: Services, caller: Caller, filled: forms.Filled, status: int) -> Response:
    models = services.models.list()
    libraries = _libraries(services, caller)
    return page(
        request, "new.html", status=status, visitor=caller, values=filled.values, faults=filled.faults, models=models,
        libraries=libraries,
    )  # fmt: skip


@router.get("/ui/audits/{audit_id}")
async def audit_page(request: Request, services: ServicesDep, audit_id: str) -> Response:
    """One audit: how far it is, or what it found."""

    def view(caller: Caller) -> Response:
        return page(request, "audit.html", visitor=caller, **_state(services, caller, audit_id))

    return await _show(request, "audits:read", view)


@router.get("/ui/audits/{audit_id}/state")
async def audit_state(request: Request, services: ServicesDep, audit_id: str) -> Response:
    """The part of the audit's page that changes while it runs."""

    def view(caller: Caller) -> Response:
        return page(request, "state.html", visitor=caller, **_state(services, caller, audit_id))

    return await _show(request, "audits:read", view)


def _libraries(services: Services, caller: Caller) -> tuple[Library, ...]:
    """The newest libraries that a page offers."""
    return services.ledger.libraries.list(owner=caller.owner, page_size=200).libraries


def _state(services: Services, caller: Caller, audit_id: str) -> dict[str, Any]:
    record = services.ledger.get(audit_id, owner=caller.owner)
    report = services.ledger.report(audit_id, owner=caller.owner) if record.status == "succeeded" else None
    history = services.ledger.events(audit_id)
    gates = words.gates(report) if report is not None else ()
    libraries: tuple[Library, ...] = ()
    if report is not None:
        libraries = _libraries(services, caller)
    return {
        "audit": record, "report": report, "history": history, "gates": gates, "ended": record.status in TERMINAL,
        "smallest": words.smallest_effect(report) if report is not None else "", "libraries": libraries,
    }  # fmt: skip


@router.get("/ui/audits/{audit_id}/events")
async def audit_events(
    request: Request, services: ServicesDep, audit_id: str, last_event_id: Annotated[int, Header(ge=0)] = 0
) -> Response:
    """The audit's events for the page's script, as the API sends them."""
    return await _show(
        request, "audits:read", lambda caller: events.follow_audit(services, caller.owner, audit_id, last_event_id)
    )


@router.get("/ui/audits/{audit_id}/report")
async def report_page(request: Request, services: ServicesDep, audit_id: str) -> Response:
    """The report in one of its forms; ``html`` by default."""
    name = request.query_params.get("format", "html")

    def view(caller: Caller) -> Response:
        form = formats.choose(name, None)
        content = form.render(subject_of(services, audit_id, caller.owner))
        kind = "inline" if name == "html" else "attachment"
        headers = {
            "Content-Disposition": f'{kind}; filename="{audit_id}{form.file_suffix}"',
            "Cache-Control": "no-store",
        }
        return Response(content, media_type=form.content_type, headers=headers | dict(form.headers))

    return await _show(request, "audits:read", view)


@router.post("/ui/audits/{audit_id}/cancel")
async def cancel(request: Request, services: ServicesDep, audit_id: str) -> Response:
    """Ask the audit to stop."""

    def view(caller: Caller) -> Response:
        calls.cancel_audit(Response(), services, caller.owner, audit_id)
        return _see(f"/ui/audits/{audit_id}")

    return await _show(request, "audits:write", view)


@router.post("/ui/audits/{audit_id}/delete")
async def delete(request: Request, services: ServicesDep, audit_id: str) -> Response:
    """Remove an audit that has ended."""

    def view(caller: Caller) -> Response:
        calls.delete_audit(services, caller.owner, audit_id)
        return _see("/")

    return await _show(request, "audits:write", view)


@router.get("/ui/compare")
async def compare_page(request: Request, services: ServicesDep) -> Response:
    """Two audits side by side."""
    ids = (request.query_params.get("left", ""), request.query_params.get("right", ""))

    def view(caller: Caller) -> Response:
        sides: list[tuple[AuditRecord, AuditReport]] = [
            (services.ledger.get(each, owner=caller.owner), services.ledger.report(each, owner=caller.owner))
            for each in ids
            if each
        ]
        lines, alike = [], False
        if len(sides) == 2:
            lines = comparing.compare(sides[0][1], sides[1][1])
            alike = comparing.comparable_question(sides[0][1], sides[1][1])
        return page(
            request, "compare.html", visitor=caller, sides=[record for record, _ in sides], lines=lines, alike=alike,
            asked={"left": ids[0], "right": ids[1]},
        )  # fmt: skip

    return await _show(request, "audits:read", view)


@router.get("/ui/libraries")
async def libraries_page(request: Request, services: ServicesDep) -> Response:
    """The benign libraries, and what is in the one that is asked for."""
    name = request.query_params.get("name", "")

    def view(caller: Caller) -> Response:
        found = _libraries(services, caller)
        entries = services.ledger.libraries.entries(name, owner=caller.owner, page_size=200).entries if name else ()
        return page(request, "libraries.html", visitor=caller, libraries=found, name=name, entries=entries, fault="")

    return await _show(request, "audits:read", view)


@router.post("/ui/libraries")
async def make_library(request: Request, services: ServicesDep) -> Response:
    """Make an empty library."""
    values = await forms.read_form(request)

    def view(caller: Caller) -> Response:
        try:
            services.ledger.libraries.create(values.get("name", ""), owner=caller.owner)
        except (ValueError, LedgerError) as error:
            found = _libraries(services, caller)
            return page(
                request, "libraries.html", status=422, visitor=caller, libraries=found, name="", entries=(),
                fault=str(error) or "This name is taken.",
            )  # fmt: skip
        return _see("/ui/libraries")

    return await _show(request, "audits:write", view)


@router.post("/ui/audits/{audit_id}/library")
async def add_to_library(request: Request, services: ServicesDep, audit_id: str) -> Response:
    """Put the score of a model that the visitor vouches for into a library."""
    values = await forms.read_form(request)

    def view(caller: Caller) -> Response:
        recipe = values.get("recipe", "").strip() or None
        try:
            services.ledger.libraries.add(
                values.get("library", ""), owner=caller.owner, audit_id=audit_id, recipe=recipe
            )
        except (ValueError, LedgerError) as error:
            return _trouble(request, 422, "Not added", str(error) or type(error).__name__, caller)
        return _see(f"/ui/libraries?name={values.get('library', '')}")

    return await _show(request, "audits:write", view)


@router.get("/ui/keys")
async def keys_page(request: Request, services: ServicesDep) -> Response:
    """The API keys, for administrators."""

    def view(caller: Caller) -> Response:
        return _keys(request, services, caller)

    return await _show(request, "admin", view)


@router.post("/ui/keys")
async def make_key(request: Request, services: ServicesDep) -> Response:
    """Make a key and show it once."""
    values = await forms.read_form(request)
    scopes = [scope for scope in SCOPES if values.get(scope)]
    days = values.get("days", "").strip()

    def view(caller: Caller) -> Response:
        owner, name = values.get("owner", "").strip() or caller.owner, values.get("name", "").strip()
        if not scopes or (days and not (days.isdecimal() and 0 < int(days) <= 3650)):
            return _keys(request, services, caller, fault="Choose at least one scope, and 1 to 3650 days or none.")
        lifetime_s = 86_400.0 * int(days) if days else None
        try:
            _, token = services.ledger.keys.create(owner=owner, name=name, scopes=scopes, lifetime_s=lifetime_s)
        except ValueError as error:
            return _keys(request, services, caller, fault=str(error))
        return _keys(request, services, caller, token=token)

    return await _show(request, "admin", view)


@router.post("/ui/keys/{key_id}/revoke")
async def revoke_key(request: Request, services: ServicesDep, key_id: str) -> Response:
    """End a key at once."""

    def view(caller: Caller) -> Response:
        services.ledger.keys.revoke(key_id)
        return _see("/ui/keys")

    return await _show(request, "admin", view)


def _keys(request: Request, services: Services, caller: Caller, *, token: str = "", fault: str = "") -> Response:
    keys = services.ledger.keys.list()
    status = 422 if fault else 200
    return page(request, "keys.html", status=status, visitor=caller, keys=keys, scopes=SCOPES, token=token, fault=fault)


@router.post("/ui/sign-in")
async def signing_in(request: Request, services: ServicesDep) -> Response:
    """Take a key from the form and let the browser keep it."""
    key = (await forms.read_form(request)).get("key", "").strip()
    if await run_in_threadpool(services.ledger.keys.check, key) is None:
        return page(request, "sign_in.html", status=401, fault="This key is not let in.")
    response = _see("/")
    sign_in(request, response, key)
    return response


@router.post("/ui/sign-out")
async def signing_out() -> Response:
    """Let the browser forget the key."""
    response = _see("/")
    sign_out(response)
    return response


@router.get("/ui/static/{name}")
async def static_file(
    request: Request, name: str, if_none_match: Annotated[str | None, Header(max_length=4096)] = None
) -> Response:
    """The style sheet and the script; they hold nothing of anybody."""
    return static(name, if_none_match) or _trouble(request, 404, "Not found", "There is no such file.")
