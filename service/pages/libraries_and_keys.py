"""The pages of benign libraries and of API keys."""

from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ValidationError

from backdoor_audit.contract.report import AuditReport
from jobs.errors import AuditNotFound, LibraryFull, LibraryNameTaken
from jobs.keys import SCOPES
from jobs.records import Library
from service.dependencies import Dependencies, DependenciesDep
from service.errors import InvalidRequest
from service.http import problems
from service.http.auth import Caller
from service.http.validation import body_items
from service.keys.schemas import KeySpec
from service.keys.service import create_key
from service.libraries.schemas import EntrySpec, LibrarySpec
from service.pages.rendering import page
from service.pages.respond import see, show, show_form

router = APIRouter(include_in_schema=False)

_DAY_S: Final = 86_400

M = TypeVar("M", bound=BaseModel)


def libraries_of(dependencies: Dependencies, caller: Caller) -> tuple[Library, ...]:
    """The newest libraries that a page offers."""
    return dependencies.ledger.libraries.list(owner=caller.owner, page_size=200).libraries


def can_be_kept(report: AuditReport | None) -> bool:
    """Whether a library may take the score of this report."""
    return report is not None and report.gates.calibrated.score is not None and not report.candidates


@router.get("/ui/libraries")
async def libraries_page(request: Request, dependencies: DependenciesDep) -> Response:
    """The benign libraries, and what is in the one that is asked for."""
    name = request.query_params.get("name", "")
    token = request.query_params.get("page_token") or None

    def view(caller: Caller) -> Response:
        chosen = dependencies.ledger.libraries.get(name, owner=caller.owner) if name else None
        found = dependencies.ledger.libraries.entries(name, owner=caller.owner, page_token=token) if name else None
        return _libraries(request, dependencies, caller, chosen=chosen, found=found)

    return await show(request, "audits:read", view)


@router.post("/ui/libraries")
async def make_library(request: Request, dependencies: DependenciesDep) -> Response:
    """Make an empty library."""

    def view(caller: Caller, values: dict[str, str]) -> Response:
        name = values.get("name", "").strip()
        wanted, faults = _checked(LibrarySpec, {"name": name})
        if wanted is None:
            return _libraries(request, dependencies, caller, faults=faults, typed=name)
        try:
            dependencies.ledger.libraries.create(wanted.name, owner=caller.owner)
        except (LibraryNameTaken, LibraryFull) as error:
            said = {"name": [problems.detail_of(error)]}
            return _libraries(request, dependencies, caller, faults=said, typed=name)
        return see(f"/ui/libraries?{urlencode({'name': wanted.name})}")

    return await show_form(request, "audits:write", view)


@router.post("/ui/libraries/{library}/delete")
async def delete_library(request: Request, dependencies: DependenciesDep, library: str) -> Response:
    """Remove a library that no running audit compares with."""

    def view(caller: Caller) -> Response:
        dependencies.ledger.libraries.delete(library, owner=caller.owner)
        return see("/ui/libraries")

    return await show(request, "audits:write", view)


@router.post("/ui/libraries/{library}/entries/{entry_id}/remove")
async def remove_entry(request: Request, dependencies: DependenciesDep, library: str, entry_id: str) -> Response:
    """Take one model out of a library."""

    def view(caller: Caller) -> Response:
        dependencies.ledger.libraries.remove(library, entry_id, owner=caller.owner)
        return see(f"/ui/libraries?{urlencode({'name': library})}")

    return await show(request, "audits:write", view)


@router.post("/ui/audits/{audit_id}/library")
async def add_to_library(request: Request, dependencies: DependenciesDep, audit_id: str) -> Response:
    """Put the score of a model that the visitor vouches for into a library."""

    def view(caller: Caller, values: dict[str, str]) -> Response:
        recipe, library = values.get("recipe", "").strip() or None, values.get("library", "")
        wanted, faults = _checked(EntrySpec, {"audit_id": audit_id, "recipe": recipe})
        if wanted is None:
            if "recipe" not in faults:
                raise AuditNotFound(audit_id)
            raise InvalidRequest(f"The recipe {'; '.join(faults['recipe'])}.")
        dependencies.ledger.libraries.add(library, owner=caller.owner, audit_id=wanted.audit_id, recipe=wanted.recipe)
        return see(f"/ui/libraries?{urlencode({'name': library})}")

    return await show_form(request, "audits:write", view)


def _libraries(request: Request, dependencies: Dependencies, caller: Caller, **more: Any) -> Response:
    context = {"chosen": None, "found": None, "faults": {}, "typed": ""} | more
    status = 422 if context["faults"] else 200
    return page(
        request,
        "libraries.html",
        status=status,
        visitor=caller,
        libraries=libraries_of(dependencies, caller),
        **context,
    )


@router.get("/ui/keys")
async def keys_page(request: Request, dependencies: DependenciesDep) -> Response:
    """The API keys, for administrators."""
    return await show(request, "admin", lambda caller: _keys(request, dependencies, caller))


@router.post("/ui/keys")
async def make_key(request: Request, dependencies: DependenciesDep) -> Response:
    """Make a key and show it once."""

    def view(caller: Caller, values: dict[str, str]) -> Response:
        days, owner = values.get("days", "").strip(), values.get("owner", "").strip()
        document = {
            "name": values.get("name", "").strip(),
            "owner": owner or None,
            "scopes": tuple(scope for scope in SCOPES if values.get(scope)),
            "expires_in_s": _DAY_S * int(days) if days.isdecimal() and len(days) < 6 else days or None,
        }
        wanted, faults = _checked(KeySpec, document)
        if wanted is None:
            if "expires_in_s" in faults:
                faults = faults | {"expires_in_s": ["must be a whole number of days, 1 to 3660, or empty"]}
            return _keys(request, dependencies, caller, faults=faults, typed=values)
        _, token = create_key(dependencies, caller.owner, wanted)
        return _keys(request, dependencies, caller, token=token)

    return await show_form(request, "admin", view)


@router.post("/ui/keys/{key_id}/revoke")
async def revoke_key(request: Request, dependencies: DependenciesDep, key_id: str) -> Response:
    """End a key at once."""

    def view(caller: Caller) -> Response:
        dependencies.ledger.keys.revoke(key_id)
        return see("/ui/keys")

    return await show(request, "admin", view)


def _keys(request: Request, dependencies: Dependencies, caller: Caller, **more: Any) -> Response:
    context = {"faults": {}, "typed": {}, "token": ""} | more
    status = 422 if context["faults"] else 200
    keys = dependencies.ledger.keys.list()
    return page(request, "keys.html", status=status, visitor=caller, keys=keys, scopes=SCOPES, **context)


def _checked(model: type[M], document: dict[str, Any]) -> tuple[M | None, dict[str, list[str]]]:
    """What the API would take of a form's fields, or what is wrong with each of them."""
    try:
        return model.model_validate(document, strict=True), {}
    except ValidationError as error:
        faults: dict[str, list[str]] = {}
        for item in body_items(error, document):
            faults.setdefault(item.pointer.split("/")[1], []).append(item.detail)
        return None, faults
