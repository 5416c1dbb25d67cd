"""Calls that return what can be handed on about an audit."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Response

from backdoor_audit.contract.attestation import ENVELOPE_MEDIA_TYPE, STATEMENT_MEDIA_TYPE
from service.attestations import bom
from service.attestations.statement import statement_of
from service.audits.routes import AuditId
from service.dependencies import DependenciesDep
from service.errors import FilesUnknown, NoSigningKey
from service.http.auth import OwnerDep, get_caller, requires
from service.http.etags import matches, tag_of
from service.http.queries import refuse_unknown
from service.openapi_document.fragments import Responses, described, header, named
from service.reports.routes import subject_of

router = APIRouter(tags=["attestations"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])

_ETAG: Final = header("Changes with a decision and with the version of the service.")
IfNoneMatch = Annotated[str | None, Header(max_length=4096, description="ETags of cached responses.")]


def _responses(description: str, media_type: str, example: str, *errors: type[Any]) -> Responses:
    answer = {
        "description": description,
        "content": {media_type: {"schema": {"type": "object"}, "examples": named(example)}},
        "headers": {"ETag": _ETAG},
    }
    unchanged = {"description": "The client already has it.", "headers": {"ETag": _ETAG}}
    return described({200: answer, 304: unchanged}, 404, 409, FilesUnknown, *errors, 422, 503)


def _answer(content: bytes, media_type: str, name: str, if_none_match: str | None) -> Response:
    headers = {
        "ETag": tag_of(content),
        "Cache-Control": "no-cache",
        "Content-Disposition": f'inline; filename="{name}"',
    }
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


@router.get(
    "/audits/{audit_id}/statement",
    summary="Get the statement to sign",
    dependencies=[Depends(requires("audits:read"))],
    response_class=Response,
    responses=_responses("The statement, not signed.", STATEMENT_MEDIA_TYPE, "statement"),
)
def get_statement(
    dependencies: DependenciesDep, owner: OwnerDep, audit_id: AuditId, if_none_match: IfNoneMatch = None
) -> Response:
    """An in-toto statement that binds verdict, spec, method and decisions to the digests of the checkpoint's files.

    `backdoor-audit attest` signs it with a key of yours.
    """
    content = statement_of(subject_of(dependencies, audit_id, owner)).encoded()
    return _answer(content, STATEMENT_MEDIA_TYPE, f"{audit_id}.statement.json", if_none_match)


@router.get(
    "/audits/{audit_id}/attestation",
    summary="Get the attestation",
    dependencies=[Depends(requires("audits:read"))],
    response_class=Response,
    responses=_responses("The signed envelope.", ENVELOPE_MEDIA_TYPE, "attestation", NoSigningKey),
)
def get_attestation(
    dependencies: DependenciesDep, owner: OwnerDep, audit_id: AuditId, if_none_match: IfNoneMatch = None
) -> Response:
    """The statement in an envelope (DSSE) that is signed with the service's own key, if its operator set one.

    `backdoor-audit verify` holds a folder against it, without the service.
    """
    statement = statement_of(subject_of(dependencies, audit_id, owner)).encoded()
    if dependencies.signer is None:
        raise NoSigningKey
    return _answer(
        dependencies.signer.sign(statement), ENVELOPE_MEDIA_TYPE, f"{audit_id}.attestation.json", if_none_match
    )


@router.get(
    "/audits/{audit_id}/bom",
    summary="Get the bill of materials",
    dependencies=[Depends(requires("audits:read"))],
    response_class=Response,
    responses=_responses(f"CycloneDX {bom.SPEC_VERSION}.", bom.MEDIA_TYPE, "bom"),
)
def get_bom(
    dependencies: DependenciesDep, owner: OwnerDep, audit_id: AuditId, if_none_match: IfNoneMatch = None
) -> Response:
    """A CycloneDX ML-BOM of the fine-tuned model: its files, its base, its chat template, and the audit as evidence."""
    content = bom.bom_of(subject_of(dependencies, audit_id, owner))
    return _answer(content, f"{bom.MEDIA_TYPE}; version={bom.SPEC_VERSION}", f"{audit_id}.cdx.json", if_none_match)
