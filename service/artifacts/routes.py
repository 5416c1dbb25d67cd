"""What an audit produced besides its report: trained dictionaries, directions, measurements."""

from functools import partial
from pathlib import PurePath
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Response
from fastapi import Path as PathParameter
from starlette.requests import Request
from starlette.responses import StreamingResponse

from service.artifacts import service
from service.artifacts.schemas import ArtifactList, ArtifactOut
from service.audits.routes import AuditId
from service.dependencies import DependenciesDep
from service.errors import ArtifactNotFound, RangeNotSatisfiable
from service.http.auth import OwnerDep, get_caller, requires
from service.http.etags import matches
from service.http.queries import refuse_unknown
from service.http.ranges import RangedResponse
from service.openapi_document.fragments import answer, described, header, named

router = APIRouter(tags=["reports"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])

_MEDIA_TYPES: Final = {".json": "application/json"}

_FILE_CONTENT: Final = {
    "application/octet-stream": {
        "schema": {"type": "string", "format": "binary"},
        "examples": named("artifact_weights"),
    },
    "application/json": {"schema": {"type": "object"}, "examples": named("artifact_config")},
}

ArtifactName = Annotated[
    str, PathParameter(max_length=200, description="Name of an artifact.", examples=["directions"])
]


@router.get(
    "/audits/{audit_id}/artifacts",
    summary="List artifacts",
    dependencies=[Depends(requires("audits:read"))],
    response_model=ArtifactList,
    responses=described({200: answer("Folders with their files.", "artifacts")}, 404, 503),
)
def list_artifacts(dependencies: DependenciesDep, owner: OwnerDep, audit_id: AuditId) -> ArtifactList:
    """While an audit runs, what it has finished so far; empty if it failed or was cancelled."""
    return ArtifactList(artifacts=service.list_artifacts(dependencies, owner, audit_id))


@router.get(
    "/audits/{audit_id}/artifacts/{name}",
    summary="Get an artifact",
    dependencies=[Depends(requires("audits:read"))],
    response_model=ArtifactOut,
    responses=described({200: answer("The artifact with its files.", "artifact")}, 404, ArtifactNotFound, 503),
)
def get_artifact(dependencies: DependenciesDep, owner: OwnerDep, audit_id: AuditId, name: ArtifactName) -> ArtifactOut:
    """One folder: its kind and its files."""
    return service.get_artifact(dependencies, owner, audit_id, name)


@router.get(
    "/audits/{audit_id}/artifacts/{name}/{file}",
    summary="Download a file of an artifact",
    dependencies=[Depends(requires("audits:read"))],
    response_class=StreamingResponse,
    responses=described(
        {
            200: {
                "description": "The file; `Range` is supported.",
                "content": _FILE_CONTENT,
                "headers": {"ETag": header("Changes when the file does.")},
            },
            206: {
                "description": "The requested range.",
                "content": _FILE_CONTENT,
                "headers": {"ETag": header("ETag of the whole file.")},
            },
            304: {"description": "The client already has this file.", "headers": {"ETag": header("Of the file.")}},
        },
        404,
        ArtifactNotFound,
        RangeNotSatisfiable,
        503,
    ),
)
def get_artifact_file(
    request: Request,
    dependencies: DependenciesDep,
    owner: OwnerDep,
    audit_id: AuditId,
    name: ArtifactName,
    file: Annotated[str, PathParameter(max_length=200, description="Name of a file in it.", examples=["cfg.json"])],
    if_none_match: Annotated[str | None, Header(max_length=4096, description="ETags of cached responses.")] = None,
) -> Response:
    """The bytes of one file. A dictionary's folder, downloaded file by file, opens in SAELens."""
    stored = service.get_file(dependencies, owner, audit_id, name, file)
    headers = {"ETag": stored.etag, "Cache-Control": "no-cache"}
    if matches(if_none_match, stored.etag):
        return Response(status_code=304, headers=headers)
    media_type = _MEDIA_TYPES.get(PurePath(file).suffix, "application/octet-stream")
    read = partial(dependencies.artifacts.read, stored)
    return RangedResponse(read, stored.size_bytes, request, headers=headers, media_type=media_type, filename=file)
