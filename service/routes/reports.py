"""What an audit answered."""

import base64
import binascii
import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Query, Response

from audit.report import AuditReport
from audit.spec import Architecture
from jobs.errors import InvalidPageToken
from service.documents import answer, described
from service.errors import NotAcceptable
from service.queries import refuse_unknown
from service.routes.audits import AuditId
from service.schemas import FeaturePage
from service.services import OwnerDep, ServicesDep

router = APIRouter(tags=["reports"], dependencies=[Depends(refuse_unknown)])

_TOKEN: Final = re.compile(r"features:([0-9]{1,9})")


@router.get(
    "/audits/{audit_id}/report",
    summary="Read the report",
    response_model=AuditReport,
    responses=described({200: answer("The report.", "report")}, 404, 406, 409, 422, 503),
)
def get_report(
    services: ServicesDep,
    owner: OwnerDep,
    audit_id: AuditId,
    report_format: Annotated[
        str | None, Query(alias="format", max_length=32, description="`json` (the default, and all there is for now).")
    ] = None,
    accept: Annotated[str | None, Header(max_length=4096, include_in_schema=False)] = None,
) -> Response:
    """The whole answer of an audit that has succeeded; while it has not, 409."""
    if report_format not in (None, "json") or (report_format is None and not _takes_json(accept)):
        raise NotAcceptable
    report = services.ledger.report(audit_id, owner=owner)
    return Response(report.model_dump_json(), media_type="application/json")


@router.get(
    "/audits/{audit_id}/features",
    summary="List flagged features",
    response_model=FeaturePage,
    responses=described({200: answer("Flagged features, in the report's order.", "feature_page")}, 404, 409, 422, 503),
)
def list_features(
    services: ServicesDep,
    owner: OwnerDep,
    audit_id: AuditId,
    layer: Annotated[int | None, Query(ge=0, le=999, description="Only features of this layer.")] = None,
    architecture: Annotated[Architecture | None, Query(description="Only features of this architecture.")] = None,
    min_bis: Annotated[
        float | None, Query(ge=-1, le=1, allow_inf_nan=False, description="Only features with at least this score.")
    ] = None,
    page_token: Annotated[
        str | None, Query(max_length=1024, description="`next_page_token` of the page before, with the same filters.")
    ] = None,
    page_size: Annotated[int, Query(ge=1, le=200, description="Features on a page.")] = 50,
) -> FeaturePage:
    """The latents that an audit flagged, each with its metrics."""
    start = _offset(page_token)
    found = [
        feature
        for feature in services.ledger.report(audit_id, owner=owner).flagged_features
        if (layer is None or feature.layer == layer)
        and (architecture is None or feature.architecture == architecture)
        and (min_bis is None or feature.bis >= min_bis)
    ]
    end = start + page_size
    return FeaturePage(features=tuple(found[start:end]), next_page_token=_token(end) if end < len(found) else None)


def _takes_json(accept: str | None) -> bool:
    """Say whether an ``Accept`` header leaves room for JSON."""
    if accept is None or not accept.strip():
        return True
    for media_range in accept.lower().split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        refused = any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
        if name in ("application/json", "application/*", "*/*") and not refused:
            return True
    return False


def _token(offset: int) -> str:
    # A report never changes, so a position in it is stable.
    return base64.urlsafe_b64encode(f"features:{offset}".encode()).decode().rstrip("=")


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise InvalidPageToken("not a page token") from None
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise InvalidPageToken("not a page token of this listing")
    return int(match[1])
