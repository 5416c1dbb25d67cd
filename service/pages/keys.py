"""The page of API keys, for administrators."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from jobs.keys import SCOPES
from service.dependencies import Dependencies, DependenciesDep
from service.http.auth import Caller
from service.keys import service
from service.keys.schemas import KeySpec
from service.pages.form_data import checked
from service.pages.rendering import page
from service.pages.respond import see, show, show_form

router = APIRouter(include_in_schema=False)

_DAY_S: Final = 86_400


@router.get("/ui/keys")
async def keys_page(request: Request, dependencies: DependenciesDep) -> Response:
    """The API keys."""
    return await show(request, "admin", lambda caller: _keys(request, dependencies, caller))


@router.post("/ui/keys")
async def create_key(request: Request, dependencies: DependenciesDep) -> Response:
    """Create a key and show it once."""

    def view(caller: Caller, values: dict[str, str]) -> Response:
        days, owner = values.get("days", "").strip(), values.get("owner", "").strip()
        document = {
            "name": values.get("name", "").strip(),
            "owner": owner or None,
            "scopes": tuple(scope for scope in SCOPES if values.get(scope)),
            "expires_in_s": _DAY_S * int(days) if days.isdecimal() and len(days) < 6 else days or None,
        }
        wanted, faults = checked(KeySpec, document)
        if wanted is None:
            if "expires_in_s" in faults:
                faults = faults | {"expires_in_s": ["must be a whole number of days from 1 to 3660, or empty"]}
            return _keys(request, dependencies, caller, faults=faults, typed=values)
        _, token = service.create_key(dependencies, caller.owner, wanted)
        return _keys(request, dependencies, caller, token=token)

    return await show_form(request, "admin", view)


@router.post("/ui/keys/{key_id}/revoke")
async def revoke_key(request: Request, dependencies: DependenciesDep, key_id: str) -> Response:
    """Revoke a key."""

    def view(caller: Caller) -> Response:
        dependencies.ledger.keys.revoke(key_id)
        return see("/ui/keys")

    return await show(request, "admin", view)


def _keys(request: Request, dependencies: Dependencies, caller: Caller, **more: Any) -> Response:
    context = {"faults": {}, "typed": {}, "token": ""} | more
    status = 422 if context["faults"] else 200
    keys = dependencies.ledger.keys.list()
    return page(request, "keys.html", status=status, visitor=caller, keys=keys, scopes=SCOPES, **context)
