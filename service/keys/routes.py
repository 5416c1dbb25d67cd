"""Calls to create, list and revoke API keys of every owner, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from backdoor_audit.contract.ids import KEY_ID
from jobs.errors import KeyNotFound
from service.dependencies import DependenciesDep
from service.http.auth import CallerDep, get_caller, requires
from service.http.json_body import body_of, reading
from service.http.queries import refuse_unknown
from service.keys import examples, service
from service.keys.schemas import KeyCreated, KeyList, KeyOut, KeySpec
from service.openapi_document.fragments import answer, described

router = APIRouter(
    tags=["keys"],
    dependencies=[Depends(get_caller), Depends(requires("admin")), Depends(refuse_unknown)],
)

KeyId = Annotated[str, Path(pattern=KEY_ID, description="The id of an API key.", examples=[examples.KEY_ID])]


@router.post(
    "/keys",
    status_code=201,
    summary="Create an API key",
    response_model=KeyCreated,
    openapi_extra=body_of(KeySpec, "key_spec"),
    responses=described(
        {201: answer("The key. Its text is in this response only.", "key_created")}, 400, 413, 415, 422, 503
    ),
)
def create_key(
    response: Response,
    dependencies: DependenciesDep,
    caller: CallerDep,
    wanted: Annotated[KeySpec, Depends(reading(KeySpec))],
) -> KeyCreated:
    """Create a key. Only an owner's own keys see that owner's audits; `admin` is no exception."""
    record, token = service.create_key(dependencies, caller.owner, wanted)
    response.headers["Cache-Control"] = "no-store"
    return KeyCreated(key=token, **KeyOut.of(record).model_dump())


@router.get(
    "/keys",
    summary="List API keys",
    response_model=KeyList,
    responses=described({200: answer("Newest first.", "key_list")}, 422, 503),
)
def list_keys(dependencies: DependenciesDep) -> KeyList:
    """The keys of every owner, including expired and revoked ones; never their text."""
    return KeyList(keys=tuple(map(KeyOut.of, dependencies.ledger.keys.list())))


@router.delete(
    "/keys/{key_id}",
    status_code=204,
    response_class=Response,
    summary="Revoke an API key",
    responses=described({204: {"description": "The key is rejected from now on."}}, KeyNotFound, 503),
)
def revoke_key(dependencies: DependenciesDep, key_id: KeyId) -> None:
    """Revoke a key. It stays in the list with its revocation time; revoking it again changes nothing."""
    dependencies.ledger.keys.revoke(key_id)
