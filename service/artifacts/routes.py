"""What an audit left beside its report: trained dictionaries, directions, measurements."""

from functools import partial
from pathlib import PurePath
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Response
from fastapi import Path as PathParameter
from starlette.requests import Request
from starlette.responses import StreamingResponse

from service.artifacts.schemas import ArtifactFile, ArtifactKind, ArtifactList, ArtifactOut
from service.audits.routes import AuditId
from service.dependencies import Dependencies, DependenciesDep
from service.errors import ArtifactNotFound, RangeNotSatisfiable
from service.http.auth import OwnerDep, get_caller, requires
from service.http.etags import matches
from service.http.queries import refuse_unknown
from service.http.ranges import RangedResponse
from service.openapi_document.fragments import answer, described, header, named
from storage.artifacts import StoredFile

router = APIRouter(tags=["reports"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])

_KINDS: Final[tuple[tuple[str, ArtifactKind], ...]] = (
    ("dictionary-", "dictionary"),
    ("directions", "directions"),
    ("confirmation", "measurements"),
    ("tuned-", "activations"),
    ("base-", "activations"),
    ("decoy-", "activations"),
)
"""Beginnings of the names that go out. What is not here is the audit's own notebook, or has a call of its own."""
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
    """While an audit runs, what it has finished so far; empty for one that failed or was cancelled."""
    dependencies.ledger.get(audit_id, owner=owner)
    found = [_artifact(dependencies, audit_id, name) for name in dependencies.artifacts.list(audit_id)]
    return ArtifactList(artifacts=tuple(artifact for artifact in found if artifact is not None))


@router.get(
    "/audits/{audit_id}/artifacts/{name}",
    summary="Look at an artifact",
    dependencies=[Depends(requires("audits:read"))],
    response_model=ArtifactOut,
    responses=described({200: answer("The artifact with its files.", "artifact")}, 404, ArtifactNotFound, 503),
)
def get_artifact(dependencies: DependenciesDep, owner: OwnerDep, audit_id: AuditId, name: ArtifactName) -> ArtifactOut:
    """One folder: its kind and its files."""
    dependencies.ledger.get(audit_id, owner=owner)
    found = _artifact(dependencies, audit_id, name)
    if found is None:
        raise ArtifactNotFound
    return found


@router.get(
    "/audits/{audit_id}/artifacts/{name}/{file}",
    summary="Fetch a file of an artifact",
    dependencies=[Depends(requires("audits:read"))],
    response_class=StreamingResponse,
    responses=described(
        {
            200: {
                "description": "The file; `Range` is heard.",
                "content": _FILE_CONTENT,
                "headers": {"ETag": header("Changes when the file does.")},
            },
            206: {
                "description": "The part that `Range` asked for.",
                "content": _FILE_CONTENT,
                "headers": {"ETag": header("Of the whole file.")},
            },
            304: {"description": "The client has this file already.", "headers": {"ETag": header("Of the file.")}},
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
    if_none_match: Annotated[
        str | None, Header(max_length=4096, description="ETags of answers that the client has.")
    ] = None,
) -> Response:
    """The bytes of one file. A dictionary's folder, fetched file by file, opens in SAELens."""
    dependencies.ledger.get(audit_id, owner=owner)
    found = next((one for one in _files(dependencies, audit_id, name) or () if one.name == file), None)
    if found is None:
        raise ArtifactNotFound
    headers = {"ETag": found.etag, "Cache-Control": "no-cache"}
    if matches(if_none_match, found.etag):
        return Response(status_code=304, headers=headers)
    media_type = _MEDIA_TYPES.get(PurePath(file).suffix, "application/octet-stream")
    read = partial(dependencies.artifacts.read, found)
    return RangedResponse(read, found.size_bytes, request, headers=headers, media_type=media_type, filename=file)


def _kind(name: str) -> ArtifactKind | None:
    return next(
        (kind for start, kind in _KINDS if name == start or (start.endswith("-") and name.startswith(start))), None
    )


def _artifact(dependencies: Dependencies, audit_id: str, name: str) -> ArtifactOut | None:
    kind, found = _kind(name), _files(dependencies, audit_id, name)
    if found is None or kind is None:
        return None
    here = f"/audits/{audit_id}/artifacts/{name}"
    files = tuple(ArtifactFile(name=one.name, size_bytes=one.size_bytes, link=f"{here}/{one.name}") for one in found)
    return ArtifactOut(name=name, kind=kind, size_bytes=sum(file.size_bytes for file in files), files=files)


def _files(dependencies: Dependencies, audit_id: str, name: str) -> tuple[StoredFile, ...] | None:
    """The files of an artifact that goes out; None where there is none of that name."""
    if _kind(name) is None:
        return None
    try:
        return dependencies.artifacts.files(audit_id, name)
    except ValueError:
        return None  # No artifact has such a name.
