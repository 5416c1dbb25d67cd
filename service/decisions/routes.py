"""What people decide about an audit's result; nothing is changed or removed but with the audit."""

from typing import Annotated

from fastapi import APIRouter, Depends

from jobs.errors import TooManyDecisions
from service.audits.routes import AuditId
from service.decisions.schemas import DecisionListing, DecisionOut, DecisionSpec
from service.dependencies import DependenciesDep
from service.http.auth import CallerDep, OwnerDep, get_caller, requires
from service.http.json_body import body_of, reading
from service.http.queries import refuse_unknown
from service.openapi_document.fragments import answer, described

router = APIRouter(tags=["decisions"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])


@router.post(
    "/audits/{audit_id}/decisions",
    status_code=201,
    summary="Decide about an audit",
    dependencies=[Depends(requires("audits:write"))],
    response_model=DecisionOut,
    openapi_extra=body_of(DecisionSpec, "decision_spec"),
    responses=described(
        {201: answer("The decision, which holds from now on.", "decision")}, 400, 404, 409, TooManyDecisions, 413, 415,
        422, 503,
    ),
)  # fmt: skip
def decide(
    dependencies: DependenciesDep,
    caller: CallerDep,
    audit_id: AuditId,
    wanted: Annotated[DecisionSpec, Depends(reading(DecisionSpec))],
) -> DecisionOut:
    """Add a decision about an audit that has succeeded. The latest one holds, and the earlier ones stay."""
    made = dependencies.ledger.decisions.add(
        audit_id,
        owner=caller.owner,
        choice=wanted.decision,
        decided_by=wanted.decided_by,
        because=wanted.because,
        key_id=caller.key_id,
    )
    return DecisionOut.of(made)


@router.get(
    "/audits/{audit_id}/decisions",
    summary="List the decisions about an audit",
    dependencies=[Depends(requires("audits:read"))],
    response_model=DecisionListing,
    responses=described({200: answer("The first one first.", "decision_listing")}, 404, 422, 503),
)
def list_decisions(dependencies: DependenciesDep, owner: OwnerDep, audit_id: AuditId) -> DecisionListing:
    """All decisions about the audit, the last of which holds."""
    found = dependencies.ledger.decisions.list(audit_id, owner=owner)
    return DecisionListing(decisions=tuple(map(DecisionOut.of, found)))
