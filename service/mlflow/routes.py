"""Events of MLflow's model registry: a new version becomes an audit."""

from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from jobs.errors import LibraryNotFound
from models_store.errors import StoreError
from models_store.references import parse_reference
from service.audits.routes import enqueue
from service.dependencies import Services, ServicesDep
from service.errors import ErrorItem, EventsOff, InvalidRequest
from service.http import problems
from service.http.json_body import body_of, parse, require_json
from service.http.queries import refuse_unknown
from service.mlflow import signatures
from service.mlflow.plans import spec_of
from service.openapi_document.fragments import answer, described, header
from service.schemas import Out

router = APIRouter(tags=["mlflow"], dependencies=[Depends(refuse_unknown)])

_SAMPLE: Final = ("models:/123", "abcd1234abcd5678")
"""Source and run of what MLflow sends when a person tests a webhook there."""
_MAX_LABEL: Final = 256

log = structlog.get_logger(__name__)


class RegisteredVersionIn(BaseModel):
    """The version that an event is about; MLflow may say more of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1, max_length=256, description="The registered model.")
    version: str = Field(min_length=1, max_length=10, description="The number of the version.")
    source: str | None = Field(default=None, description="Where its files are.")
    run_id: str | None = Field(default=None, description="The run that it comes from.")
    tags: dict[str, str] | None = Field(
        default=None,
        description="Tags that it was made with; `backdoor_audit.base_model`, `.triggered`, `.clean` and `.template` "
        "fill in what the operator's plan leaves out.",
    )


class RegistryEvent(BaseModel):
    """An event of MLflow's registry, as its webhooks carry it; other kinds than new versions are let pass."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    entity: str = Field(max_length=100, description="`model_version`.")
    action: str = Field(max_length=100, description="`created`.")
    timestamp: str | None = Field(default=None, description="When it was sent.")
    data: dict[str, Any] = Field(description="For a new version: `name`, `version`, `source`, `run_id`, `tags`.")


class RegistryEventOut(Out):
    """What became of an event."""

    audit_id: str | None = Field(description="The audit of the new version; null where none was filed.")
    reason: str | None = Field(description="Why none was filed; null where one was.")


@router.post(
    "/mlflow/events",
    status_code=202,
    summary="Take an event of MLflow",
    response_model=RegistryEventOut,
    openapi_extra=body_of(RegistryEvent, "registry_event") | {"security": [{"mlflow": []}]},
    responses=described(
        {
            202: answer(
                "An audit of the new version was filed.", "event_taken", {"Location": header("Where the audit is.")}
            ),
            200: answer(
                "The audit that the same delivery filed before; or nothing was filed, and why.",
                "event_passed",
                {"Location": header("Where the audit is, if there is one.")},
                RegistryEventOut,
            ),
        },
        400,
        problems.SIGNATURE_REFUSED,
        problems.EVENTS_OFF,
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
    services: ServicesDep,
    signature: Annotated[
        str | None,
        Header(alias=signatures.SIGNATURE, max_length=200, description="`v1,` and the HMAC of id, time and body."),
    ] = None,
    timestamp: Annotated[
        str | None, Header(alias=signatures.TIMESTAMP, max_length=20, description="Unix time, seconds.")
    ] = None,
    delivery_id: Annotated[
        str | None,
        Header(alias=signatures.DELIVERY_ID, max_length=200, pattern=r"^[!-~]+$", description="One for each delivery."),
    ] = None,
) -> RegistryEventOut:
    """For MLflow's webhook `model_version.created`: files the audit that the operator's plan has for this model.

    The same delivery files one audit, however often it comes. No API key is asked for: the event's signature is.
    """
    secret = services.settings.mlflow_event_secret
    if secret is None:
        raise EventsOff
    body = await request.body()
    signatures.verify(
        secret.get_secret_value(), signature=signature, timestamp=timestamp, delivery_id=delivery_id, body=body
    )
    require_json(request.headers.get("content-type"))
    found = await run_in_threadpool(_take, services, body, str(delivery_id))
    if found.audit_id is not None:
        response.headers["Location"] = f"/audits/{found.audit_id}"
    if not found.created:
        response.status_code = 200
    return RegistryEventOut(audit_id=found.audit_id, reason=found.reason)


class _Taken(BaseModel):
    """What became of an event, and whether an audit is new."""

    audit_id: str | None = None
    reason: str | None = None
    created: bool = False


def _take(services: Services, body: bytes, delivery_id: str) -> _Taken:
    """File the audit of an event whose signature is right.

    Raises:
        MalformedJson, InvalidRequest, IdempotencyConflict, QueueFull: as their names say.
    """
    event = parse(RegistryEvent, body)
    if (event.entity, event.action) != ("model_version", "created"):
        return _Taken(reason="not a new version")
    version = _version(event)
    if (version.source, version.run_id) == _SAMPLE:
        return _Taken(reason="a test of the webhook")
    registry = services.settings.registry
    if registry is None or not registry.allows(version.name):
        return _Taken(reason="the model is not in MLFLOW_MODELS")
    plan = None if services.plans is None else services.plans.find(version.name)
    if plan is None:
        return _Taken(reason="no plan is for this model")
    reference = f"mlflow:{version.name}/{version.version}"
    labels = {"mlflow.run_id": version.run_id[:_MAX_LABEL]} if version.run_id else {}
    try:
        spec = spec_of(plan, reference, version.tags or {}, labels)
    except InvalidRequest as error:
        # MLflow shows the answer to nobody.
        log.warning("registry event refused", reference=reference, errors=[item.detail for item in error.errors])
        raise
    try:
        submission = services.ledger.submit(
            spec, owner=services.settings.mlflow_owner, idempotency_key=f"mlflow-{delivery_id}"
        )
    except LibraryNotFound:
        detail = "the plan's library names no benign library of MLFLOW_OWNER"
        raise InvalidRequest(errors=[ErrorItem("service", "#/library", detail)]) from None
    if submission.created:
        enqueue(services, submission.audit.id)
    log.info("registry event", reference=reference, audit_id=submission.audit.id, created=submission.created)
    return _Taken(audit_id=submission.audit.id, created=submission.created)


def _version(event: RegistryEvent) -> RegisteredVersionIn:
    """The version of an event.

    Raises:
        InvalidRequest: it is not as MLflow describes one, or has a name that no reference can spell.
    """
    try:
        version = RegisteredVersionIn.model_validate(event.data, strict=True)
        parse_reference(f"mlflow:{version.name}/{version.version}")
    except (ValueError, StoreError):
        detail = "names no version of a registered model that an audit can name"
        raise InvalidRequest(errors=[ErrorItem("body", "#/data", detail)]) from None
    return version
