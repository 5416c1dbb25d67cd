"""Calls to submit, read, cancel and delete audits."""

import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from pydantic import AwareDatetime, BeforeValidator, StringConstraints

from backdoor_audit.contract.ids import AUDIT_ID, DIGEST
from backdoor_audit.contract.lifecycle import TERMINAL, Status
from backdoor_audit.contract.report.verdicts import Verdict
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.errors import AuditNotTerminal
from jobs.records import AuditRecord
from models_store.errors import ModelNotFound, ModelRejected, ModelsIncompatible
from service.audits import examples, service
from service.audits.schemas import AuditOut, AuditPage, Estimate, RetrySpec
from service.dependencies import Dependencies, DependenciesDep
from service.http.auth import CallerDep, OwnerDep, get_caller, requires
from service.http.etags import matches
from service.http.json_body import body_of, read_spec, reading
from service.http.paging import PagingDep
from service.http.public_url import link
from service.http.queries import refuse_unknown
from service.openapi_document.fragments import answer, described, header, named

AuditId = Annotated[str, Path(pattern=AUDIT_ID, description="The id of an audit.", examples=[examples.AUDIT_ID])]

_REFERENCE: Final = "^[!-~ ]+$"
Label = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}(=[^\x00]*)?$", max_length=63 + 1 + 256)
]

_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)


def _date_time(value: str) -> str:
    """Refuse what pydantic would take for seconds since 1970."""
    if not _DATE_TIME.fullmatch(value):
        raise ValueError("must be a date and time with its time zone, such as 2026-01-01T00:00:00Z")
    return value


DateTime = Annotated[AwareDatetime, BeforeValidator(_date_time)]

_POLL_QUEUED_S: Final = 5
_POLL_RUNNING_S: Final = 2

router = APIRouter(tags=["audits"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])

_LOCATION: Final = header("URL of the audit.")
_RETRY_AFTER: Final = header("Seconds to wait before polling again; absent once the audit has ended.", "integer")
_ETAG: Final = header("Changes whenever the audit does; send it as `If-None-Match`.")


@router.post(
    "/audits",
    status_code=202,
    summary="Submit an audit",
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
                "description": "The audit that this key submitted before, with the same body; or the estimate.",
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
    dry_run: Annotated[bool, Query(description="Submit nothing; return what the audit would cost.")] = False,
) -> Any:
    """Accept an audit and queue it.

    The models' headers are read here, so a missing or rejected model and a layer that the base does not have are
    reported at once. What only a worker can see (a hub model that has not been fetched) is checked by the worker.
    """
    if dry_run:
        estimate = service.estimate_audit(dependencies, owner, spec)
        return Response(estimate.model_dump_json(), media_type="application/json")
    submission = service.file_audit(dependencies, owner, spec, idempotency_key=idempotency_key)
    record = submission.audit
    if not submission.created:
        response.status_code = 200
    response.headers["Location"] = link(f"/audits/{record.id}")
    return _described(response, dependencies, record)


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
    base_model: Annotated[
        str | None,
        Query(pattern=_REFERENCE, max_length=512, description="Only audits with this base model."),
    ] = None,
    fine_tuned: Annotated[
        str | None,
        Query(
            pattern=_REFERENCE,
            max_length=512,
            description="Only audits of this fine-tuned model.",
        ),
    ] = None,
    label: Annotated[
        list[Label],
        Query(max_length=8, description="Only audits with this label: `name=value`, or `name` alone; repeatable."),
    ] = [],  # noqa: B006 (FastAPI copies it)
    filed_since: Annotated[
        DateTime | None, Query(description="Only audits that were filed at this time or later.")
    ] = None,
    filed_before: Annotated[DateTime | None, Query(description="Only audits that were filed earlier.")] = None,
    id_prefix: Annotated[
        str | None, Query(pattern=r"^audit_[0-9a-z]{1,26}$", description="Only audits whose id begins like this.")
    ] = None,
) -> AuditPage:
    """Pages are stable while audits are submitted: no audit is skipped or shown twice.

    A page of audits with long specs has fewer than `page_size`.
    """
    page = dependencies.ledger.list(
        owner=owner,
        status=status,
        verdict=verdict,
        tuned_digest=tuned_digest,
        spec_digest=spec_digest,
        base_model=base_model,
        fine_tuned=fine_tuned,
        labels=tuple(map(_label, label)),
        filed_since=filed_since,
        filed_before=filed_before,
        id_prefix=id_prefix,
        page_size=paging.page_size,
        page_token=paging.page_token,
    )
    return AuditPage.of(page, dependencies.durations.of)


def _label(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    return name, value if equals else None


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
    audit = _described(response, dependencies, record)
    if matches(if_none_match, response.headers["ETag"]):
        return Response(status_code=304, headers=dict(response.headers))
    return audit


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
    return _described(response, dependencies, cancellation.audit)


@router.post(
    "/audits/{audit_id}/retry",
    status_code=202,
    summary="Retry an audit",
    dependencies=[Depends(requires("audits:write"))],
    response_model=AuditOut,
    openapi_extra=body_of(RetrySpec, "retry_spec", required=False),
    responses=described(
        {
            202: answer(
                "The new audit.",
                "audit_queued",
                {"Location": _LOCATION, "Retry-After": _RETRY_AFTER, "ETag": _ETAG},
            )
        },
        400, 404, AuditNotTerminal, 413, 415, 422, ModelRejected, ModelsIncompatible, 429, 503,
    ),
)  # fmt: skip
def retry_audit(
    response: Response,
    dependencies: DependenciesDep,
    owner: OwnerDep,
    audit_id: AuditId,
    wanted: Annotated[RetrySpec, Depends(reading(RetrySpec, empty=RetrySpec()))],
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern=r"^[!-~]+$",
            description="Makes retries of this call safe: the same key returns the same new audit.",
        ),
    ] = None,
) -> AuditOut:
    """File the same spec once more, with the models as they are now, and with the changes in the body if there is one.
    The audit itself, which must have ended, stays as it is.
    """
    submission = service.retry_audit(dependencies, owner, audit_id, wanted.changes, idempotency_key=idempotency_key)
    response.headers["Location"] = link(f"/audits/{submission.audit.id}")
    return _described(response, dependencies, submission.audit)


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


def _described(response: Response, dependencies: Dependencies, record: AuditRecord) -> AuditOut:
    """The audit as it is answered, with the headers that go with it."""
    audit = AuditOut.of(record, dependencies.durations.of(record))
    # Place and expected duration change without the version.
    parts = (record.version, audit.queue_position or 0, round(audit.expected_s or 0))
    response.headers["ETag"] = f'"{".".join(map(str, parts))}"'
    response.headers["Cache-Control"] = "no-cache"
    if record.status not in TERMINAL:
        wait_s = _POLL_QUEUED_S if record.status == "queued" else _POLL_RUNNING_S
        response.headers["Retry-After"] = str(wait_s)
    return audit
