"""Calls to file, read and cancel batches of audits."""

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query, Response

from backdoor_audit.contract.batch import BatchSpec
from backdoor_audit.contract.ids import BATCH_ID
from models_store.errors import ModelRejected, ModelsIncompatible
from service.batches import examples, report, service
from service.batches.schemas import BatchOut
from service.batches.service import Batch
from service.dependencies import DependenciesDep
from service.errors import BatchNotFound
from service.http.auth import OwnerDep, get_caller, requires
from service.http.json_body import body_of, reading
from service.http.public_url import link
from service.http.queries import refuse_unknown
from service.openapi_document.fragments import answer, described, header, named
from service.reports import page

router = APIRouter(tags=["batches"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])

BatchId = Annotated[str, Path(pattern=BATCH_ID, description="The id of a batch.", examples=[examples.BATCH_ID])]

FORMS: Final[dict[str, tuple[str, str, Callable[[Batch], bytes]]]] = {
    "json": ("application/json", ".json", report.as_json),
    "html": ("text/html", ".html", report.as_html),
    "markdown": ("text/markdown", ".md", report.as_markdown),
    "junit": ("application/xml", ".xml", report.as_junit),
}
"""Media type, suffix and renderer of each form of a batch's report."""


@router.post(
    "/audits/batch",
    status_code=202,
    summary="Submit a batch of audits",
    dependencies=[Depends(requires("audits:write"))],
    response_model=BatchOut,
    openapi_extra=body_of(BatchSpec, "batch_spec"),
    responses=described(
        {202: answer("All are accepted.", "batch", {"Location": header("URL of the batch.")})},
        400, 413, 415, 422, ModelRejected, ModelsIncompatible, 429, 503,
    ),
)  # fmt: skip
def create_batch(
    response: Response,
    dependencies: DependenciesDep,
    owner: OwnerDep,
    wanted: Annotated[BatchSpec, Depends(reading(BatchSpec))],
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern=r"^[!-~]+$",
            description="Makes retries safe: the same key and body return the same batch.",
        ),
    ] = None,
) -> BatchOut:
    """File one audit for each entry of `audits`: the fields of `spec`, with its own models or pair. All or none."""
    batch = service.file_batch(dependencies, owner, wanted, idempotency_key=idempotency_key)
    response.headers["Location"] = link(f"/batches/{batch.id}")
    return BatchOut.of(batch)


@router.api_route("/audits/batch", methods=["DELETE", "GET", "HEAD"], include_in_schema=False)
def refuse_other_methods() -> None:
    """The path is no audit's, though it fits the template of one."""
    raise HTTPException(405)


@router.get(
    "/batches/{batch_id}",
    summary="Get a batch",
    dependencies=[Depends(requires("audits:read"))],
    response_model=BatchOut,
    responses=described({200: answer("Its audits, worst first.", "batch")}, BatchNotFound, 503),
)
def get_batch(dependencies: DependenciesDep, owner: OwnerDep, batch_id: BatchId) -> BatchOut:
    """The audits of a batch that have not been deleted, worst first."""
    return BatchOut.of(service.find_batch(dependencies, owner, batch_id))


@router.get(
    "/batches/{batch_id}/report",
    summary="Get a batch's report",
    dependencies=[Depends(requires("audits:read"))],
    response_class=Response,
    responses=described(
        {
            200: {
                "description": "The report, worst audit first.",
                "content": {
                    media_type: {"schema": {"type": "string"}, "examples": named(f"batch_{name}")}
                    if name != "json"
                    else {"schema": {"$ref": "#/components/schemas/BatchOut"}, "examples": named("batch")}
                    for name, (media_type, _, _) in FORMS.items()
                },
            }
        },
        BatchNotFound, 422, 503,
    ),
)  # fmt: skip
def get_batch_report(
    dependencies: DependenciesDep,
    owner: OwnerDep,
    batch_id: BatchId,
    report_format: Annotated[
        str,
        Query(alias="format", pattern=f"^({'|'.join(FORMS)})$", description=f"One of {', '.join(FORMS)}."),
    ] = "json",
) -> Response:
    """The same in a form for people or build servers; also before all audits have ended."""
    media_type, suffix, render = FORMS[report_format]
    headers = {"Content-Disposition": f'inline; filename="{batch_id}{suffix}"', "Cache-Control": "no-cache"}
    if report_format == "html":
        headers["Content-Security-Policy"] = page.POLICY
    content = render(service.find_batch(dependencies, owner, batch_id))
    return Response(content, media_type=media_type, headers=headers)


@router.post(
    "/batches/{batch_id}/cancel",
    summary="Cancel a batch",
    dependencies=[Depends(requires("audits:write"))],
    response_model=BatchOut,
    responses=described(
        {200: answer("Those that had not ended are cancelled, or will be.", "batch")}, BatchNotFound, 503
    ),
)
def cancel_batch(dependencies: DependenciesDep, owner: OwnerDep, batch_id: BatchId) -> BatchOut:
    """Cancel every audit of a batch that has not ended."""
    return BatchOut.of(service.cancel_batch(dependencies, owner, batch_id))
