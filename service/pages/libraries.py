"""The pages of benign libraries."""

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from backdoor_audit.contract.report.audit_report import AuditReport
from jobs.errors import AuditNotFound, LibraryFull, LibraryNameTaken
from jobs.records import Library
from service.dependencies import Dependencies, DependenciesDep
from service.errors import InvalidRequest
from service.http import problems
from service.http.auth import Caller
from service.libraries.schemas import EntrySpec, LibrarySpec
from service.libraries.service import add_entry
from service.pages.form_data import checked
from service.pages.rendering import page
from service.pages.respond import see, show, show_form

router = APIRouter(include_in_schema=False)


def newest(dependencies: Dependencies, caller: Caller) -> tuple[Library, ...]:
    """The newest libraries, for a page to offer."""
    return dependencies.ledger.libraries.list(owner=caller.owner, page_size=200).libraries


def can_be_added(report: AuditReport) -> bool:
    """Whether a library accepts the score of this report."""
    return report.gates.calibrated.score is not None and not report.candidates


@router.get("/ui/libraries")
async def libraries_page(request: Request, dependencies: DependenciesDep) -> Response:
    """The benign libraries, and the entries of the one named in the query."""
    name = request.query_params.get("name", "")
    token = request.query_params.get("page_token") or None

    def view(caller: Caller) -> Response:
        chosen = dependencies.ledger.libraries.get(name, owner=caller.owner) if name else None
        found = dependencies.ledger.libraries.entries(name, owner=caller.owner, page_token=token) if name else None
        return _libraries(request, dependencies, caller, chosen=chosen, found=found)

    return await show(request, "audits:read", view)


@router.post("/ui/libraries")
async def create_library(request: Request, dependencies: DependenciesDep) -> Response:
    """Create an empty library."""

    def view(caller: Caller, values: dict[str, str]) -> Response:
        name = values.get("name", "").strip()
        wanted, faults = checked(LibrarySpec, {"name": name})
        if wanted is None:
            return _libraries(request, dependencies, caller, faults=faults, typed=name)
        try:
            dependencies.ledger.libraries.create(wanted.name, owner=caller.owner)
        except (LibraryNameTaken, LibraryFull) as error:
            faults = {"name": [problems.detail_of(error)]}
            return _libraries(request, dependencies, caller, faults=faults, typed=name)
        return see(f"/ui/libraries?{urlencode({'name': wanted.name})}")

    return await show_form(request, "audits:write", view)


@router.post("/ui/libraries/{library}/delete")
async def delete_library(request: Request, dependencies: DependenciesDep, library: str) -> Response:
    """Delete a library that no unfinished audit uses."""

    def view(caller: Caller) -> Response:
        dependencies.ledger.libraries.delete(library, owner=caller.owner)
        return see("/ui/libraries")

    return await show(request, "audits:write", view)


@router.post("/ui/libraries/{library}/entries/{entry_id}/remove")
async def remove_entry(request: Request, dependencies: DependenciesDep, library: str, entry_id: str) -> Response:
    """Remove one model from a library."""

    def view(caller: Caller) -> Response:
        dependencies.ledger.libraries.remove(library, entry_id, owner=caller.owner)
        return see(f"/ui/libraries?{urlencode({'name': library})}")

    return await show(request, "audits:write", view)


@router.post("/ui/audits/{audit_id}/library")
async def add_to_library(request: Request, dependencies: DependenciesDep, audit_id: str) -> Response:
    """Add the score of a model that the visitor vouches for to a library."""

    def view(caller: Caller, values: dict[str, str]) -> Response:
        recipe, library = values.get("recipe", "").strip() or None, values.get("library", "")
        because = values.get("because", "").strip() or None
        wanted, faults = checked(EntrySpec, {"audit_id": audit_id, "recipe": recipe, "because": because})
        if wanted is None:
            for name, title in (("recipe", "recipe"), ("because", "reason")):
                if name in faults:
                    raise InvalidRequest(f"The {title} {'; '.join(faults[name])}.")
            raise AuditNotFound(audit_id)
        add_entry(
            dependencies, caller.owner, library, audit_id=wanted.audit_id, recipe=wanted.recipe, because=wanted.because
        )
        return see(f"/ui/libraries?{urlencode({'name': library})}")

    return await show_form(request, "audits:write", view)


def _libraries(request: Request, dependencies: Dependencies, caller: Caller, **more: Any) -> Response:
    context = {"chosen": None, "found": None, "faults": {}, "typed": ""} | more
    status = 422 if context["faults"] else 200
    return page(
        request, "libraries.html", status=status, visitor=caller, libraries=newest(dependencies, caller), **context
    )
