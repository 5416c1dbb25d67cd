"""Takes a checkpoint that a browser sends file by file: the API's own calls, for a visitor who is signed in.

The script ``upload.js`` of the form for a new audit is the only client. Errors are the API's problems.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from backdoor_audit.contract.checkpoint_files import fetched
from service.dependencies import DependenciesDep
from service.errors import CrossSiteRequest, MissingScope, Unauthenticated
from service.http.auth import Caller
from service.models import upload_routes
from service.models.schemas import UploadedFile
from service.pages.form_data import read_form
from service.pages.session import NotAllowed, NotSignedIn, visitor_of

router = APIRouter(include_in_schema=False, prefix="/ui/uploads")


async def _uploader(request: Request) -> Caller:
    """The visitor, if they may upload.

    Raises:
        Unauthenticated, MissingScope, CrossSiteRequest: as their names say.
    """
    try:
        return await visitor_of(request, "models:write")
    except NotSignedIn:
        raise Unauthenticated(given=False) from None
    except NotAllowed as error:
        raise (CrossSiteRequest() if error.caller is None else MissingScope("models:write")) from None


@router.post("")
async def files_to_send(request: Request) -> dict[str, list[str]]:
    """Which files of a folder make up the checkpoint: from their names, one a line."""
    await _uploader(request)
    names = (await read_form(request)).get("names", "").split("\n")
    return {"files": sorted(fetched({name for name in names if name}))}


@router.put("/{name}/files/{path:path}")
async def put_file(
    request: Request,
    response: Response,
    dependencies: DependenciesDep,
    name: str,
    path: str,
    content_range: Annotated[str | None, Header(max_length=100)] = None,
) -> UploadedFile:
    """A part of a file, as the API takes it."""
    owner = (await _uploader(request)).owner
    return await upload_routes.put_file(request, response, dependencies, owner, name, path, content_range)


@router.post("/{name}/commit")
async def commit(request: Request, response: Response, dependencies: DependenciesDep, name: str) -> Any:
    """Make the upload a model of the store, as the API does."""
    owner = (await _uploader(request)).owner
    return await run_in_threadpool(upload_routes.commit_model, response, dependencies, owner, name)
