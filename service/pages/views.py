"""The pages of audits, and what their forms do."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Request, Response

from backdoor_audit.contract.lifecycle import TERMINAL
from backdoor_audit.contract.report import guide, words
from backdoor_audit.contract.text.formatting import timing
from jobs.records import Library
from service.attestations.bom import bom_of
from service.attestations.statement import statement_of
from service.audits import service as audits
from service.audits.event_stream import event_stream
from service.decisions.schemas import DecisionSpec
from service.dependencies import Dependencies, DependenciesDep
from service.errors import InvalidRequest
from service.http.auth import Caller
from service.pages import batches, compare, keys, libraries, new_audit, prose, search, uploads
from service.pages.form_data import checked
from service.pages.rendering import page, static
from service.pages.respond import saved, see, show, show_form, show_open, trouble
from service.pages.session import sign_in, sign_out
from service.reports import formats
from service.reports.routes import subject_of

router = APIRouter(include_in_schema=False)

_PAGE_SIZE: Final = 25
_SIDES: Final = ("left", "right")

for each in (new_audit, uploads, batches, libraries, keys, prose):
    router.include_router(each.router)


@router.get("/")
async def list_page(request: Request, dependencies: DependenciesDep) -> Response:
    """The audits, newest first, with filters, a search and pages."""
    asked = {name: request.query_params.get(name, "") for name in ("status", "verdict", "q", "page_token")}

    def view(caller: Caller) -> Response:
        found = search.page_of(dependencies.ledger, caller.owner, _PAGE_SIZE, **asked)
        return page(request, "list.html", visitor=caller, found=found, asked=asked)

    return await show(request, "audits:read", view)


@router.get("/ui/audits/{audit_id}")
async def audit_page(request: Request, dependencies: DependenciesDep, audit_id: str) -> Response:
    """One audit: its progress or its result."""

    return await show(request, "audits:read", lambda caller: _audit(request, dependencies, caller, audit_id))


def _audit(
    request: Request,
    dependencies: Dependencies,
    caller: Caller,
    audit_id: str,
    *,
    faults: Mapping[str, list[str]] | None = None,
    typed: Mapping[str, str] | None = None,
) -> Response:
    """The page of an audit; with what is wrong with a decision, and the decision as it was typed."""
    nothing = dict.fromkeys(DecisionSpec.model_fields, "")
    return page(
        request, "audit.html", status=422 if faults else 200, visitor=caller,
        decisions=dependencies.ledger.decisions.list(audit_id, owner=caller.owner), faults=faults or {},
        typed=nothing | dict(typed or {}), **_state(dependencies, caller, audit_id),
    )  # fmt: skip


@router.post("/ui/audits/{audit_id}/decisions")
async def decide(request: Request, dependencies: DependenciesDep, audit_id: str) -> Response:
    """Record a decision about an audit."""

    def view(caller: Caller, values: dict[str, str]) -> Response:
        typed = {name: values.get(name, "").strip() for name in DecisionSpec.model_fields}
        wanted, faults = checked(DecisionSpec, typed)
        if wanted is None:
            return _audit(request, dependencies, caller, audit_id, faults=faults, typed=typed)
        dependencies.ledger.decisions.add(
            audit_id, owner=caller.owner, choice=wanted.decision, decided_by=wanted.decided_by, because=wanted.because,
            key_id=caller.key_id,
        )  # fmt: skip
        return see(f"/ui/audits/{audit_id}#decisions")

    return await show_form(request, "audits:write", view)


@router.get("/ui/audits/{audit_id}/state")
async def audit_state(request: Request, dependencies: DependenciesDep, audit_id: str) -> Response:
    """The part of an audit's page that changes while it runs."""

    def view(caller: Caller) -> Response:
        return page(request, "state.html", visitor=caller, **_state(dependencies, caller, audit_id))

    return await show(request, "audits:read", view)


def _state(dependencies: Dependencies, caller: Caller, audit_id: str) -> dict[str, Any]:
    record = dependencies.ledger.get(audit_id, owner=caller.owner)
    report = dependencies.ledger.report(audit_id, owner=caller.owner) if record.status == "succeeded" else None
    history = dependencies.ledger.events(audit_id)
    gates = words.gates(report) if report is not None else ()
    written = guide.written(report) if report is not None else ()
    offered: tuple[Library, ...] = ()
    if report is not None and libraries.can_be_added(report):
        offered = libraries.newest(dependencies, caller)
    return {
        "audit": record, "report": report, "history": history, "gates": gates, "ended": record.status in TERMINAL,
        "timing": timing(record.started_at, dependencies.durations.of(record), datetime.now(UTC)),
        "smallest": words.smallest_effect(report) if report is not None else "", "libraries": offered,
        "written": written, "written_first": guide.WRITTEN_FIRST, "written_title": guide.WRITTEN_TITLE,
        "how_often": guide.how_often(written, None if report is None else report.behaviour),
        "has_base": any(row.base is not None for row in written),
        "next_title": guide.NEXT_TITLE, "next_steps": guide.next_steps(report) if report is not None else (),
    }  # fmt: skip


@router.get("/ui/audits/{audit_id}/events")
async def audit_events(
    request: Request, dependencies: DependenciesDep, audit_id: str, last_event_id: Annotated[int, Header(ge=0)] = 0
) -> Response:
    """The audit's events for the page's script, in the API's form."""
    return await show(
        request, "audits:read", lambda caller: event_stream(dependencies.ledger, caller.owner, audit_id, last_event_id)
    )


@router.get("/ui/audits/{audit_id}/report")
async def report_page(request: Request, dependencies: DependenciesDep, audit_id: str) -> Response:
    """The report in one of its formats; ``html`` by default."""
    name = request.query_params.get("format", "html")

    def view(caller: Caller) -> Response:
        form = formats.choose(name, None)
        content = form.render(subject_of(dependencies, audit_id, caller.owner))
        kind = "inline" if name == "html" else "attachment"
        headers = {
            "Content-Disposition": f'{kind}; filename="{audit_id}{form.file_suffix}"',
            "Cache-Control": "no-store",
        }
        return Response(content, media_type=form.content_type, headers=headers | dict(form.headers))

    return await show(request, "audits:read", view)


@router.get("/ui/audits/{audit_id}/statement")
async def statement_page(request: Request, dependencies: DependenciesDep, audit_id: str) -> Response:
    """The statement to sign, to save."""

    def view(caller: Caller) -> Response:
        content = statement_of(subject_of(dependencies, audit_id, caller.owner)).encoded()
        return saved(content, "application/json", f"{audit_id}.statement.json")

    return await show(request, "audits:read", view)


@router.get("/ui/audits/{audit_id}/bom")
async def bom_page(request: Request, dependencies: DependenciesDep, audit_id: str) -> Response:
    """The bill of materials, to save."""

    def view(caller: Caller) -> Response:
        content = bom_of(subject_of(dependencies, audit_id, caller.owner))
        return saved(content, "application/json", f"{audit_id}.cdx.json")

    return await show(request, "audits:read", view)


@router.post("/ui/audits/{audit_id}/cancel")
async def cancel(request: Request, dependencies: DependenciesDep, audit_id: str) -> Response:
    """Cancel an audit."""

    def view(caller: Caller) -> Response:
        audits.cancel_audit(dependencies, caller.owner, audit_id)
        return see(f"/ui/audits/{audit_id}")

    return await show(request, "audits:write", view)


@router.post("/ui/audits/{audit_id}/delete")
async def delete(request: Request, dependencies: DependenciesDep, audit_id: str) -> Response:
    """Delete a finished audit."""

    def view(caller: Caller) -> Response:
        audits.delete_audit(dependencies, caller.owner, audit_id)
        return see("/")

    return await show(request, "audits:write", view)


@router.post("/ui/audits/{audit_id}/retry")
async def retry(request: Request, dependencies: DependenciesDep, audit_id: str) -> Response:
    """File an ended audit's spec once more; with the changes of one of the report's next steps, if one is named."""

    def view(caller: Caller, values: dict[str, str]) -> Response:
        changes: dict[str, Any] = {}
        if step := values.get("step"):
            steps = guide.next_steps(dependencies.ledger.report(audit_id, owner=caller.owner))
            # By its number, not by what it changes: a form files what the report proposes, and nothing else.
            changes = next((each.changes for number, each in enumerate(steps) if step == str(number)), {})
            if not changes:
                raise InvalidRequest("The report has no such next step. Load its page again.")
        filed = audits.retry_audit(dependencies, caller.owner, audit_id, changes).audit
        return see(f"/ui/audits/{filed.id}")

    return await show_form(request, "audits:write", view)


@router.get("/ui/compare")
async def compare_page(request: Request, dependencies: DependenciesDep) -> Response:
    """Two audits side by side."""
    ticked = dict(zip(_SIDES, request.query_params.getlist("audit"), strict=False))  # from the list, at most two count
    asked = {side: request.query_params.get(side, ticked.get(side, "")).strip() for side in _SIDES}

    def view(caller: Caller) -> Response:
        found = compare.look_up(dependencies.ledger, caller.owner, asked)
        offered = dependencies.ledger.list(owner=caller.owner, status="succeeded", page_size=50).audits
        return page(
            request, "compare.html", status=422 if found.faults else 200, visitor=caller, asked=asked,
            sides=found.records, faults=found.faults, lines=found.lines, alike=found.alike, offered=offered,
        )  # fmt: skip

    return await show(request, "audits:read", view)


@router.post("/ui/sign-in")
async def signing_in(request: Request, dependencies: DependenciesDep) -> Response:
    """Sign in with the key from the form."""

    def view(values: dict[str, str]) -> Response:
        key = values.get("key", "").strip()
        if dependencies.ledger.keys.check(key) is None:
            return page(request, "sign_in.html", status=401, fault="Invalid, expired or revoked key.")
        response = see("/")
        sign_in(request, response, key)
        return response

    return await show_open(request, view)


@router.post("/ui/sign-out")
async def signing_out(request: Request) -> Response:
    """Sign out."""

    def view(_values: dict[str, str]) -> Response:
        response = see("/")
        sign_out(request, response)
        return response

    return await show_open(request, view)


@router.get("/ui/static/{name}")
async def static_file(
    request: Request, name: str, if_none_match: Annotated[str | None, Header(max_length=4096)] = None
) -> Response:
    """A static file: the same for everybody, so it needs no session."""
    return static(name, if_none_match) or trouble(request, 404, "Not found", "No such file.")


@router.get("/ui/{rest:path}")
async def no_page(request: Request, rest: str) -> Response:
    """Any other address, including GET requests for those that only accept forms."""
    return trouble(request, 404, "Not found", "No page has this address.")
