"""Calls that return an audit's report."""

import json
import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Response

from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.report.features import Feature
from backdoor_audit.contract.spec.audit_spec import Architecture
from jobs.errors import InvalidPageToken
from service import page_tokens
from service.audits.routes import AuditId
from service.dependencies import Dependencies, DependenciesDep
from service.errors import FeatureNotFound
from service.http.auth import OwnerDep, get_caller, requires
from service.http.etags import matches, tag_of
from service.http.paging import PagingDep
from service.http.queries import refuse_unknown
from service.openapi_document.fragments import answer, described, header, named
from service.openapi_document.report_schema import report_schema
from service.reports import formats
from service.reports.schemas import FeaturePage
from service.reports.subject import Subject

router = APIRouter(tags=["reports"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])

_LISTING: Final = "features"


_ETAG: Final = header(
    "The JSON never changes; forms for people do with a decision, and all with the version of the service."
)


def _forms() -> dict[str, Any]:
    """The response's content in the OpenAPI document: every format with an example."""
    content: dict[str, Any] = {}
    for form in formats.FORMATS:
        content[form.media_type] = {"examples": named("report" if form.name == "json" else f"report_{form.name}")}
        if form.name != "json":
            kind = "object" if form.media_type.endswith("+json") else "string"
            content[form.media_type]["schema"] = {"type": kind}
    return {"description": "The report.", "content": content, "headers": {"ETag": _ETAG}}


@router.get(
    "/audits/{audit_id}/report",
    summary="Get the report",
    dependencies=[Depends(requires("audits:read"))],
    response_model=AuditReport,
    responses=described(
        {
            200: _forms(),
            304: {"description": "The client already has this report.", "headers": {"ETag": _ETAG}},
        },
        404,
        406,
        409,
        422,
        503,
    ),
)
def get_report(
    dependencies: DependenciesDep,
    owner: OwnerDep,
    audit_id: AuditId,
    report_format: Annotated[
        str | None,
        Query(
            alias="format",
            max_length=32,
            json_schema_extra={"enum": [*formats.NAMES]},
            description=f"One of {', '.join(formats.NAMES)}; takes precedence over `Accept`.",
        ),
    ] = None,
    accept: Annotated[str | None, Header(max_length=4096, include_in_schema=False)] = None,
    if_none_match: Annotated[str | None, Header(max_length=4096, description="ETags of cached responses.")] = None,
) -> Response:
    """The report of an audit that has succeeded, as JSON or in another format; 409 otherwise."""
    form = formats.choose(report_format, accept)
    content = form.render(subject_of(dependencies, audit_id, owner))
    headers = {
        "ETag": tag_of(content),
        "Cache-Control": "no-cache",
        "Vary": "Accept",
        "Content-Disposition": f'inline; filename="{audit_id}{form.file_suffix}"',
        **form.headers,
    }
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=form.content_type, headers=headers)


@router.get(
    "/audits/{audit_id}/features/{feature_id:path}",
    summary="Get a flagged feature",
    dependencies=[Depends(requires("audits:read"))],
    response_model=Feature,
    responses=described({200: answer("The feature.", "feature")}, 404, FeatureNotFound, 409, 503),
)
def get_feature(
    dependencies: DependenciesDep,
    owner: OwnerDep,
    audit_id: AuditId,
    feature_id: Annotated[
        str, Path(max_length=200, description="architecture/layer/seed/index.", examples=["diff_sae/17/0/1234"])
    ],
) -> Feature:
    """One flagged feature: its metrics, where it fires, what it promotes, and the effects of ablating and steering
    it.
    """
    for feature in dependencies.ledger.report(audit_id, owner=owner).flagged_features:
        if feature.id == feature_id:
            return feature
    raise FeatureNotFound


@router.get(
    "/schemas/report",
    summary="Get the JSON schema of reports",
    dependencies=[Depends(requires("audits:read"))],
    response_class=Response,
    responses=described(
        {
            200: {
                "description": "JSON Schema, draft 2020-12.",
                "content": {
                    "application/schema+json": {"schema": {"type": "object"}, "examples": named("report_schema")}
                },
            }
        },
    ),
)
def get_report_schema() -> Response:
    """The schema of the JSON report; its `$id` changes with the schema's major version."""
    return Response(json.dumps(report_schema()), media_type="application/schema+json")


def subject_of(dependencies: Dependencies, audit_id: str, owner: str) -> Subject:
    """The input of every report format."""
    record = dependencies.ledger.get(audit_id, owner=owner)
    return Subject(
        report=dependencies.ledger.report(audit_id, owner=owner),
        base_model=record.spec.base_model,
        fine_tuned=record.spec.fine_tuned,
        checkpoint_file=dependencies.models.main_file(record.spec.fine_tuned),
        started_at=record.started_at,
        finished_at=record.finished_at,
        decisions=dependencies.ledger.decisions.list(audit_id, owner=owner),
    )


@router.get(
    "/audits/{audit_id}/features",
    summary="List flagged features",
    dependencies=[Depends(requires("audits:read"))],
    response_model=FeaturePage,
    responses=described({200: answer("Flagged features, in the report's order.", "feature_page")}, 404, 409, 422, 503),
)
def list_features(
    dependencies: DependenciesDep,
    owner: OwnerDep,
    audit_id: AuditId,
    paging: PagingDep,
    layer: Annotated[int | None, Query(ge=0, le=999, description="Only features at this layer.")] = None,
    architecture: Annotated[Architecture | None, Query(description="Only features of this architecture.")] = None,
    min_bis: Annotated[
        float | None, Query(ge=-1, le=1, allow_inf_nan=False, description="Only features with at least this BIS.")
    ] = None,
) -> FeaturePage:
    """The features that an audit flagged, each with its metrics."""
    start = _offset(paging.page_token)
    features = [
        feature
        for feature in dependencies.ledger.report(audit_id, owner=owner).flagged_features
        if (layer is None or feature.layer == layer)
        and (architecture is None or feature.architecture == architecture)
        and (min_bis is None or feature.bis >= min_bis)
    ]
    end = start + paging.page_size
    return FeaturePage(
        features=tuple(features[start:end]),
        next_page_token=page_tokens.encode(_LISTING, end) if end < len(features) else None,
    )


def _offset(token: str | None) -> int:
    # A report never changes, so positions in it are stable.
    position = "0" if token is None else page_tokens.decode(_LISTING, token)
    if not re.fullmatch("[0-9]{1,9}", position):
        raise InvalidPageToken("not a page token of this listing")
    return int(position)
