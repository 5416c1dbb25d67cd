"""Handles an event of MLflow's model registry: a new version leads to an audit."""

from dataclasses import dataclass
from typing import Final

import structlog

from models_store.errors import ModelRejected, ModelsIncompatible, StoreError
from models_store.references import parse_reference
from models_store.sources.mlflow_registry import MlflowRegistry
from service.audits.service import file_audit
from service.dependencies import Dependencies
from service.errors import ErrorItem, InvalidRequest, UnknownLibrary
from service.mlflow.plans import spec_of
from service.mlflow.schemas import RegisteredVersionIn, RegistryEvent

_SAMPLE: Final = ("models:/123", "abcd1234abcd5678")
"""Source and run of the event that MLflow sends when a webhook is tested there."""
_MAX_LABEL: Final = 256

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TakenEvent:
    """The result of an event: the audit of the new version, or the reason why there is none."""

    audit_id: str | None = None
    reason: str | None = None
    created: bool = False
    """Whether the audit is new; False for a repeated delivery."""


def take_event(dependencies: Dependencies, event: RegistryEvent, delivery_id: str) -> TakenEvent:
    """Submit the audit for an event whose signature has been verified.

    Raises:
        InvalidRequest, IdempotencyConflict, QueueFull: as their names say.
    """
    if (event.entity, event.action) != ("model_version", "created"):
        return TakenEvent(reason="not a new version")
    version = _version(event)
    if (version.source, version.run_id) == _SAMPLE:
        return TakenEvent(reason="a test of the webhook")
    registry = MlflowRegistry.from_settings(dependencies.settings)
    if registry is None or not registry.allows(version.name):
        return TakenEvent(reason="the model is not in MLFLOW_MODELS")
    plan = None if dependencies.plans is None else dependencies.plans.find(version.name)
    if plan is None:
        return TakenEvent(reason="no plan matches this model")
    reference = f"mlflow:{version.name}/{version.version}"
    labels = {"mlflow.run_id": version.run_id[:_MAX_LABEL]} if version.run_id else {}
    try:
        spec = spec_of(plan, reference, version.tags or {}, labels)
    except InvalidRequest as error:
        # MLflow does not show the response to anyone.
        log.warning("registry_event.refused", reference=reference, errors=[item.detail for item in error.errors])
        raise
    try:
        submission = file_audit(
            dependencies, dependencies.settings.mlflow_owner, spec, idempotency_key=f"mlflow-{delivery_id}"
        )
    except UnknownLibrary:
        detail = "the plan's library names no benign library of MLFLOW_OWNER"
        raise InvalidRequest(errors=[ErrorItem("service", "#/library", detail)]) from None
    except InvalidRequest as error:
        log.warning("registry_event.refused", reference=reference, errors=[item.detail for item in error.errors])
        raise
    except (ModelRejected, ModelsIncompatible) as error:
        log.warning("registry_event.refused", reference=reference, errors=[error.message])
        raise
    log.info("registry_event.taken", reference=reference, audit_id=submission.audit.id, created=submission.created)
    return TakenEvent(audit_id=submission.audit.id, created=submission.created)


def _version(event: RegistryEvent) -> RegisteredVersionIn:
    """The version of an event.

    Raises:
        InvalidRequest: it is not in MLflow's format, or its name cannot be written as a reference.
    """
    try:
        version = RegisteredVersionIn.model_validate(event.data, strict=True)
        parse_reference(f"mlflow:{version.name}/{version.version}")
    except (ValueError, StoreError):
        detail = "does not name a version of a registered model that an audit can use"
        raise InvalidRequest(errors=[ErrorItem("body", "#/data", detail)]) from None
    return version
