"""Calls to upload a checkpoint file by file, commit it, and delete models from the store."""

import base64
import binascii
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from models_store.errors import (
    DigestMismatch,
    InvalidReference,
    ModelInUse,
    ModelNotFound,
    ModelRejected,
    NameTaken,
    NoSpace,
    OffsetMismatch,
    StoreFull,
    UploadBusy,
    UploadIncomplete,
    UploadRefused,
)
from models_store.uploads import Receiving, Uploads
from service.dependencies import DependenciesDep
from service.errors import ErrorItem, InvalidRequest
from service.http.auth import CallerDep, OwnerDep, get_caller, requires
from service.http.queries import refuse_unknown
from service.models import service
from service.models.schemas import CommitUnderWay, ModelOut, UploadedFile
from service.openapi_document.fragments import answer, described, header, named

_COMMIT_POLL_S: Final = 2
_BUFFER_BYTES: Final = 2**20
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_DIGEST: Final = re.compile(r"(?:.*,)?\s*sha-256=:([A-Za-z0-9+/]{43}=):(?:\s*,.*)?")
_OFFSET: Final = {"Upload-Offset": header("Bytes of the file received so far.", "integer")}

log = structlog.get_logger(__name__)
router = APIRouter(
    tags=["models"],
    dependencies=[Depends(get_caller), Depends(requires("models:write")), Depends(refuse_unknown)],
)

ModelName = Annotated[
    str,
    Path(
        description="The model's name in the store: lower-case letters, digits, `.`, `_`, `-`.",
        examples=["candidate-4711"],
    ),
]
FilePath = Annotated[
    str, Path(description="The file's path in the checkpoint.", examples=["adapter_model.safetensors"])
]


@dataclass(frozen=True)
class _Part:
    """Which bytes of a file a request contains; ``end`` and ``total`` are None if it does not say."""

    start: int = 0
    end: int | None = None
    total: int | None = None


@router.put(
    "/models/{name}/files/{path:path}",
    status_code=201,
    summary="Upload a file",
    response_model=UploadedFile,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {
                    "schema": {"type": "string", "format": "binary"},
                    "examples": named("artifact_weights"),
                }
            },
        }
    },
    responses=described(
        {
            201: answer("The file is complete.", "uploaded_file", _OFFSET),
            202: answer("This part was received; the file is incomplete.", "uploaded_part", _OFFSET, UploadedFile),
        },
        OffsetMismatch,
        UploadBusy,
        UploadRefused,
        413,
        StoreFull,
        422,
        DigestMismatch,
        ModelRejected,
        InvalidReference,
        503,
        NoSpace,
    ),
)
async def put_file(
    request: Request,
    response: Response,
    dependencies: DependenciesDep,
    owner: OwnerDep,
    name: ModelName,
    path: FilePath,
    content_range: Annotated[
        str | None,
        Header(
            max_length=100, description="`bytes first-last/size` for a part; without it the body is the whole file."
        ),
    ] = None,
    repr_digest: Annotated[
        str | None, Header(max_length=1000, description="`sha-256=:…:` of the whole file (RFC 9530); it is checked.")
    ] = None,
) -> UploadedFile:
    """Part after part, each starting where the previous one ended; `HEAD` says where that is. A part at 0 starts over.

    Only safetensors files and the JSON files that models are read from are accepted. An upload cannot be named in an
    audit before it is committed.
    """
    part = _part(content_range, request.headers.get("content-length"))
    wanted = _wanted(repr_digest)
    async with _receiving(dependencies.models.uploads.of(owner), name, path, part) as receiving:
        await _take(request, receiving, part)
        whole = part.end is None or receiving.offset == part.total
        found = await run_in_threadpool(receiving.finish, wanted) if whole else None
    response.status_code = 201 if whole else 202
    response.headers["Upload-Offset"] = str(receiving.offset)
    if whole:
        log.info("upload.file_received", bytes=receiving.offset)
    return UploadedFile(
        model=name, path=path, offset=receiving.offset, complete=whole, sha256=None if found is None else found.sha256
    )


@router.head(
    "/models/{name}/files/{path:path}",
    summary="Get the state of a file's upload",
    response_class=Response,
    responses=described(
        {
            200: {
                "description": "Some or all of the file was received.",
                "headers": _OFFSET
                | {
                    "Upload-Complete": header("`?1` if the file is complete, else `?0`."),
                    "Repr-Digest": header(
                        "`sha-256=:…:` of a complete file; absent if the commit has yet to compute and check it."
                    ),
                },
            }
        },
        ModelNotFound,
        ModelRejected,
        503,
    ),
)
def head_file(dependencies: DependenciesDep, owner: OwnerDep, name: ModelName, path: FilePath) -> Response:
    """Where to resume an interrupted upload."""
    found = dependencies.models.uploads.of(owner).received(name, path)
    headers = {
        "Upload-Offset": str(found.offset),
        "Upload-Complete": f"?{int(found.complete)}",
        "Cache-Control": "no-store",
    }
    if found.sha256 is not None:
        headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(found.sha256)).decode()}:"
    return Response(headers=headers)


@router.post(
    "/models/{name}/commit",
    status_code=201,
    summary="Commit an upload",
    response_model=ModelOut | CommitUnderWay,
    responses=described(
        {
            201: answer("The model is in the store; `reference` names it in audits.", "model_stored", model=ModelOut),
            202: answer(
                "The files are being read and checked. Ask again after `Retry-After` seconds: the same commit goes on.",
                "commit_under_way",
                {"Retry-After": header("Seconds to wait before asking again.", "integer")},
                CommitUnderWay,
            ),
        },
        ModelNotFound,
        UploadIncomplete,
        UploadBusy,
        UploadRefused,
        StoreFull,
        NameTaken,
        DigestMismatch,
        ModelRejected,
        InvalidReference,
        503,
        NoSpace,
    ),
)
def commit_model(response: Response, dependencies: DependenciesDep, owner: OwnerDep, name: ModelName) -> Any:
    """Verify the upload like every checkpoint, and make it visible in one step. Safe to repeat.

    Answered with 202 if large files have to be read first; the commit goes on, and repeating the call joins it.
    """
    patience_s = dependencies.settings.commit_patience_s
    kept = dependencies.models.commit_soon(name, owner=owner, patience_s=patience_s)
    if kept is None:
        response.status_code = 202
        response.headers["Retry-After"] = str(_COMMIT_POLL_S)
        return CommitUnderWay(name=name, status="checking")
    return ModelOut(
        reference=f"store:{name}",
        name=name,
        kind=kept.kind,
        architecture=kept.architecture,
        size_bytes=kept.size_bytes,
        digest=kept.digest,
        refused=None,
    )


@router.delete(
    "/models/{name}",
    status_code=204,
    summary="Delete a model",
    response_class=Response,
    responses=described(
        {204: {"description": "The model, and anything uploaded under its name, is deleted."}},
        ModelNotFound,
        ModelInUse,
        UploadBusy,
        InvalidReference,
        503,
    ),
)
def delete_model(dependencies: DependenciesDep, caller: CallerDep, name: ModelName) -> None:
    """Delete a model of yours from the store, or an abandoned upload; refused while an unfinished audit uses it.

    A key with the scope `admin` deletes any model.
    """
    service.delete_model(dependencies, caller, name)


@asynccontextmanager
async def _receiving(uploads: Uploads, name: str, path: str, part: _Part) -> AsyncIterator[Receiving]:
    """``Uploads.receiving`` off the event loop."""
    manager = uploads.receiving(name, path, offset=part.start, total=part.total)
    receiving = await run_in_threadpool(manager.__enter__)
    try:
        yield receiving
    except BaseException as error:
        await run_in_threadpool(manager.__exit__, type(error), error, error.__traceback__)
        raise
    await run_in_threadpool(manager.__exit__, None, None, None)


async def _take(request: Request, receiving: Receiving, part: _Part) -> None:
    """Write the body as it arrives; if it breaks off, what has arrived is kept."""
    buffer = bytearray()

    async def flush() -> None:
        content = bytes(buffer)
        buffer.clear()
        if part.end is not None and receiving.offset + len(content) > part.end + 1:
            raise InvalidRequest(errors=[ErrorItem("header", "#/content-range", "the body is longer than declared")])
        await run_in_threadpool(receiving.write, content)

    try:
        async for chunk in request.stream():
            buffer += chunk
            if len(buffer) >= _BUFFER_BYTES:
                await flush()
    finally:
        if buffer:
            await flush()
    if part.end is not None and receiving.offset != part.end + 1:
        raise InvalidRequest(errors=[ErrorItem("header", "#/content-range", "the body is shorter than declared")])


def _part(content_range: str | None, content_length: str | None) -> _Part:
    if content_range is None:
        known = content_length is not None and content_length.isdecimal()
        return _Part(total=int(content_length[:18]) if known and content_length is not None else None)
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    part = _Part(*map(int, match.groups())) if match else None
    if part is None or part.end is None or part.total is None or not part.start <= part.end < part.total:
        raise InvalidRequest(errors=[ErrorItem("header", "#/content-range", "must be bytes first-last/size")])
    return part


def _wanted(repr_digest: str | None) -> str | None:
    """The digest that the file must have, hexadecimal."""
    if repr_digest is None:
        return None
    match = _DIGEST.fullmatch(repr_digest)
    try:
        return base64.b64decode(match[1] if match else "!", validate=True).hex()
    except binascii.Error:
        raise InvalidRequest(errors=[ErrorItem("header", "#/repr-digest", "must hold sha-256=:base64:")]) from None
