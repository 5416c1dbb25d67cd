"""Events of MLflow's model registry: a new version becomes an audit."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from service.dependencies import DependenciesDep
from service.errors import EventsOff, SignatureRefused
from service.http.json_body import body_of, parse, require_json
from service.http.public_url import link
from service.http.queries import refuse_unknown
from service.mlflow import service, signatures
from service.mlflow.schemas import RegistryEvent, RegistryEventOut
from service.openapi_document.fragments import answer, described, header

router = APIRouter(tags=["mlflow"], dependencies=[Depends(refuse_unknown)])


@router.post(
    "/mlflow/events",
    status_code=202,
    summary="Receive an MLflow event",
    response_model=RegistryEventOut,
    openapi_extra=body_of(RegistryEvent, "registry_event") | {"security": [{"mlflow": []}]},
    responses=described(
        {
            202: answer(
                "An audit of the new version was submitted.", "event_taken", {"Location": header("URL of the audit.")}
            ),
            200: answer(
                "The audit that this delivery submitted before, or the reason why none was.",
                "event_passed",
                {"Location": header("URL of the audit, if there is one.")},
                RegistryEventOut,
            ),
        },
        400,
        SignatureRefused,
        EventsOff,
        413,
        415,
        422,
        429,
        503,
    ),
)
async def take_mlflow_event(
    request: Request,
    response: Response,
    dependencies: DependenciesDep,
    signature: Annotated[
        str | None,
        Header(alias=signatures.SIGNATURE, max_length=200, description="`v1,` and the HMAC of id, time and body."),
    ] = None,
    timestamp: Annotated[
        str | None, Header(alias=signatures.TIMESTAMP, max_length=20, description="Unix time, seconds.")
    ] = None,
    delivery_id: Annotated[
        str | None,
        Header(alias=signatures.DELIVERY_ID, max_length=200, pattern=r"^[!-~]+$", description="Id of the delivery."),
    ] = None,
) -> RegistryEventOut:
    """For MLflow's webhook `model_version.created`: files the audit that the operator's plan defines for this model.

    A delivery files one audit, however often it is repeated. It needs no API key; its signature is verified instead.
    """
    secret = dependencies.settings.mlflow_event_secret
    if secret is None:
        raise EventsOff
    body = await request.body()
    signatures.verify(
        secret.get_secret_value(), signature=signature, timestamp=timestamp, delivery_id=delivery_id, body=body
    )
    require_json(request.headers.get("content-type"))
    event = await run_in_threadpool(parse, RegistryEvent, body)
    taken = await run_in_threadpool(service.take_event, dependencies, event, str(delivery_id))
    if taken.audit_id is not None:
        response.headers["Location"] = link(f"/audits/{taken.audit_id}")
    if not taken.created:
        response.status_code = 200
    return RegistryEventOut(audit_id=taken.audit_id, reason=taken.reason)
