"""Filing, reading, cancelling and deleting audits."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Response

from backdoor_audit.contract.ids import AUDIT_ID, DIGEST
from backdoor_audit.contract.lifecycle import TERMINAL, Status
from backdoor_audit.contract.report.verdicts import Verdict
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.records import AuditRecord
from models_store.errors import ModelNotFound, ModelRejected, ModelsIncompatible
from service.audits import examples, service
from service.audits.schemas import AuditOut, AuditPage, Estimate
from service.dependencies import DependenciesDep
from service.http.auth import CallerDep, OwnerDep, get_caller, requires
from service.http.etags import matches
from service.http.json_body import body_of, read_spec
from service.http.paging import PagingDep
from service.http.queries import refuse_unknown
from service.openapi_document.fragments import answer, described, header, named

AuditId = Annotated[str, Path(pattern=AUDIT_ID, description="The id of an audit.", examples=[examples.AUDIT_ID])]

_POLL_QUEUED_S: Final = 5
_POLL_RUNNING_S: Final = 2

router = APIRouter(tags=["audits"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])

_LOCATION: Final = header("URL of the audit.")
_RETRY_AFTER: Final = header("Seconds to wait before polling again; absent once the audit has ended.", "integer")
_ETAG: Final = header("Changes whenever the audit does; send it as `If-None-Match`.")


@router.post(
    "/audits",
    status_code=202,
    summary="File an audit",
    dependencies=[Depends(requires("audits:write"))],
    response_model=AuditOut,
    openapi_extra=body_of(AuditSpec, *examples.SPECS),
    responses=described(
        {
            202: answer(
                "Accepted. The audit survives any single crash and ends in exactly one terminal state.",
                "audit_queued",
                {"Location": _LOCATION, "Retry-After": _RETRY_AFTER, "ETag": _ETAG},
            ),
            200: {
                "description": "The audit that this key filed before, with the same body; or, with `dry_run`, what it "
                "would cost.",
                "content": {"application/json": {"examples": named("audit_running", "estimate")}},
                "headers": {"Location": _LOCATION, "Retry-After": _RETRY_AFTER, "ETag": _ETAG},
                "model": AuditOut | Estimate,
            },
        },
        400,
        ModelNotFound,
        413,
        415,
        422,
        ModelRejected,
        ModelsIncompatible,
        429,
        503,
    ),
)
def create_audit(
    response: Response,
    dependencies: DependenciesDep,
    owner: OwnerDep,
    spec: Annotated[AuditSpec, Depends(read_spec)],
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern=r"^[!-~]+$",
            description="Makes retries safe: the same key and body return the same audit.",
        ),
    ] = None,
    dry_run: Annotated[bool, Query(description="File nothing; return what the audit would cost.")] = False,
) -> Any:
    """Accept an audit and queue it.

    The models' headers are read here, so a missing or rejected model and a layer that the base does not have are
    reported at once. What only a worker can see (a model of the hub that has not been fetched) is checked there.
    """
    if dry_run:
        estimate = service.estimate_audit(dependencies, owner, spec)
        return Response(estimate.model_dump_json(), media_type="application/json")
    submission = service.file_audit(dependencies, owner, spec, idempotency_key=idempotency_key)
    record = submission.audit
    if not submission.created:
        response.status_code = 200
    response.headers["Location"] = f"/audits/{record.id}"
    _describe(response, record)
    return AuditOut.of(record)


@router.get(
    "/audits",
    summary="List audits",
    dependencies=[Depends(requires("audits:read"))],
    response_model=AuditPage,
    responses=described({200: answer("Newest first.", "audit_page")}, 422, 503),
)
def list_audits(
    dependencies: DependenciesDep,
    owner: OwnerDep,
    paging: PagingDep,
    status: Annotated[Status | None, Query(description="Only audits in this state.")] = None,
    verdict: Annotated[Verdict | None, Query(description="Only audits with this verdict.")] = None,
    tuned_digest: Annotated[
        str | None,
        Query(pattern=DIGEST, description="Only audits of a fine-tuned model with this digest."),
    ] = None,
    spec_digest: Annotated[
        str | None,
        Query(pattern=DIGEST, description="Only audits of a spec with this digest, as `dry_run` returns it."),
    ] = None,
) -> AuditPage:
    """Pages are stable while audits are filed: no audit is skipped or shown twice.

    A page of audits with long specs has fewer than `page_size`.
    """
    page = dependencies.ledger.list(
        owner=owner,
        status=status,
        verdict=verdict,
        tuned_digest=tuned_digest,
        spec_digest=spec_digest,
        page_size=paging.page_size,
        page_token=paging.page_token,
    )
    return AuditPage.of(page)


@router.get(
    "/audits/{audit_id}",
    summary="Get an audit",
    dependencies=[Depends(requires("audits:read"))],
    response_model=AuditOut,
    responses=described(
        {
            200: answer("The audit's current state.", "audit_running", {"ETag": _ETAG, "Retry-After": _RETRY_AFTER}),
            304: {
                "description": "Unchanged since the response with this ETag.",
                "headers": {"ETag": _ETAG, "Retry-After": _RETRY_AFTER},
            },
        },
        404,
        503,
    ),
)
def get_audit(
    response: Response,
    dependencies: DependenciesDep,
    owner: OwnerDep,
    audit_id: AuditId,
    if_none_match: Annotated[str | None, Header(max_length=4096, description="ETags of cached responses.")] = None,
) -> Any:
    """Status, stage, progress and, at the end, the verdict or the failure."""
    record = dependencies.ledger.get(audit_id, owner=owner)
    _describe(response, record)
    if matches(if_none_match, _etag(record)):
        return Response(status_code=304, headers=dict(response.headers))
    return AuditOut.of(record)


@router.post(
    "/audits/{audit_id}/cancel",
    status_code=202,
    summary="Cancel an audit",
    dependencies=[Depends(requires("audits:write"))],
    response_model=AuditOut,
    responses=described(
        {
            202: answer(
                "The audit is cancelled, or will be once its worker notices.",
                "audit_cancelling",
                {"Retry-After": _RETRY_AFTER, "ETag": _ETAG},
            ),
            200: answer("The audit had already ended and is unchanged.", "audit_succeeded", {"ETag": _ETAG}, AuditOut),
        },
        404,
        503,
    ),
)
def cancel_audit(response: Response, dependencies: DependenciesDep, caller: CallerDep, audit_id: AuditId) -> AuditOut:
    """Best effort: if the audit ends before its worker notices, that result stands.

    A key with the scope `admin` also cancels other owners' audits.
    """
    owner = None if caller.may("admin") and caller.key_id is not None else caller.owner
    cancellation = service.cancel_audit(dependencies, owner, audit_id)
    if cancellation.had_ended:
        response.status_code = 200
    _describe(response, cancellation.audit)
    return AuditOut.of(cancellation.audit)


@router.delete(
    "/audits/{audit_id}",
    status_code=204,
    response_class=Response,
    summary="Delete an audit",
    dependencies=[Depends(requires("audits:write"))],
    responses=described({204: {"description": "Audit, report and artifacts are gone."}}, 404, 409, 503),
)
def delete_audit(dependencies: DependenciesDep, owner: OwnerDep, audit_id: AuditId) -> None:
    """Delete an audit that has ended, with everything it produced."""
    service.delete_audit(dependencies, owner, audit_id)


def _describe(response: Response, record: AuditRecord) -> None:
    response.headers["ETag"] = _etag(record)
    response.headers["Cache-Control"] = "no-cache"
    if record.status not in TERMINAL:
        wait_s = _POLL_QUEUED_S if record.status == "queued" else _POLL_RUNNING_S
        response.headers["Retry-After"] = str(wait_s)


def _etag(record: AuditRecord) -> str:
    return f'"{record.version}"'
