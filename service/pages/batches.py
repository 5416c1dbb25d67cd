"""The pages of batches."""

from fastapi import APIRouter, Request, Response

from service.batches import report, service
from service.batches.routes import FORMS
from service.batches.service import Batch
from service.dependencies import DependenciesDep
from service.errors import NotAcceptable
from service.http.auth import Caller
from service.pages.rendering import page
from service.pages.respond import saved, see, show

router = APIRouter(include_in_schema=False)


@router.get("/ui/batches/{batch_id}")
async def batch_page(request: Request, dependencies: DependenciesDep, batch_id: str) -> Response:
    """The audits of a batch, worst first."""

    def view(caller: Caller) -> Response:
        return _batch(request, caller, service.find_batch(dependencies, caller.owner, batch_id))

    return await show(request, "audits:read", view)


def _batch(request: Request, caller: Caller, found: Batch) -> Response:
    rows = [(row, report.title_of(row), report.remark_of(row)) for row in found.rows]
    headline = report.headline(found)
    return page(request, "batch.html", visitor=caller, batch=found, rows=rows, headline=headline, forms=list(FORMS))


@router.get("/ui/batches/{batch_id}/report")
async def batch_report_page(request: Request, dependencies: DependenciesDep, batch_id: str) -> Response:
    """A batch's report in one of its forms, to save."""
    name = request.query_params.get("format", "html")

    def view(caller: Caller) -> Response:
        if name not in FORMS:
            raise NotAcceptable
        media_type, suffix, render = FORMS[name]
        content = render(service.find_batch(dependencies, caller.owner, batch_id))
        return saved(content, media_type, f"{batch_id}{suffix}")

    return await show(request, "audits:read", view)


@router.post("/ui/batches/{batch_id}/cancel")
async def cancel_batch(request: Request, dependencies: DependenciesDep, batch_id: str) -> Response:
    """Cancel what has not ended of a batch."""

    def view(caller: Caller) -> Response:
        service.cancel_batch(dependencies, caller.owner, batch_id)
        return see(f"/ui/batches/{batch_id}")

    return await show(request, "audits:write", view)
