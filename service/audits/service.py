"""Use cases for audits, shared by the API, the pages and MLflow's events."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import structlog
from pydantic import ValidationError

from backdoor_audit.contract.lifecycle import TERMINAL
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.errors import AuditNotTerminal, LedgerError, LibraryNotFound
from jobs.records import AuditRecord, Submission
from service.audits.checks import check_spec
from service.audits.estimates import estimate
from service.audits.schemas import Estimate
from service.dependencies import Dependencies
from service.errors import ErrorItem, InvalidRequest, UnknownLibrary
from service.http.validation import body_items
from worker.errors import BrokerUnavailable

log = structlog.get_logger(__name__)


_QUESTIONS: Final = frozenset({"trigger", "candidates", "search"})
"""A spec has one of these: a change to one of them takes the place of the others."""
_IN_PARTS: Final = ("overrides", "trigger", "search")


@dataclass(frozen=True)
class Cancellation:
    """The audit after a cancel, and whether it had ended before and was left unchanged."""

    audit: AuditRecord
    had_ended: bool


def file_audit(
    dependencies: Dependencies, owner: str, spec: AuditSpec, *, idempotency_key: str | None = None
) -> Submission:
    """Record an audit in the ledger and enqueue it.

    The models are looked up here, by their headers, and read by a worker.

    Args:
        idempotency_key: makes repeating the call safe; the same key and spec give the same audit.

    Raises:
        UnknownLibrary: the spec names a benign library that the owner does not have.
        UnknownModel, ModelRejected, ModelsIncompatible: as ``check_spec``.
        InvalidRequest: the spec cannot be carried out: a layer that the base does not have, too few carriers.
        IdempotencyConflict, QueueFull, UnknownWebhook: as their names say.
    """
    earlier = None if idempotency_key is None else dependencies.ledger.find_submission(spec, owner, idempotency_key)
    if earlier is not None:
        return earlier  # what it was submitted for may have changed since
    check_spec(dependencies.models, spec)
    try:
        submission = dependencies.ledger.submit(spec, owner=owner, idempotency_key=idempotency_key)
    except LibraryNotFound:
        raise UnknownLibrary from None
    if submission.created:
        enqueue(dependencies, submission.audit.id)
    return submission


def estimate_audit(dependencies: Dependencies, owner: str, spec: AuditSpec) -> Estimate:
    """What an audit would cost. Submits nothing; only the models' headers are read here.

    Raises:
        StoreError: a model is missing or refused, or does not fit the other.
        InvalidRequest: the spec cannot be carried out.
    """
    return estimate(dependencies.models, dependencies.durations, owner, spec)


def cancel_audit(dependencies: Dependencies, owner: str | None, audit_id: str) -> Cancellation:
    """Cancel an audit; one that has ended is not changed.

    Args:
        owner: whose audit it must be; None for anybody's.

    Raises:
        AuditNotFound: the owner has no such audit.
    """
    record = dependencies.ledger.get(audit_id, owner=owner)
    if record.status in TERMINAL:
        return Cancellation(record, had_ended=True)
    return Cancellation(dependencies.ledger.request_cancel(audit_id, owner=owner), had_ended=False)


def retry_audit(
    dependencies: Dependencies,
    owner: str,
    audit_id: str,
    changes: Mapping[str, Any] = MappingProxyType({}),
    *,
    idempotency_key: str | None = None,
) -> Submission:
    """File the spec of an audit that has ended once more, as a new audit.

    Args:
        changes: fields of the spec that are to be otherwise; those of ``overrides``, ``trigger`` and ``search`` one by
            one. A pair takes the place of a search, and the other way round.

    Raises:
        AuditNotFound, AuditNotTerminal: as their names say.
        UnknownLibrary, UnknownModel, ModelRejected, …: as ``file_audit``.
    """
    record = dependencies.ledger.get(audit_id, owner=owner)
    if record.status not in TERMINAL:
        raise AuditNotTerminal(audit_id, record.status)
    spec = _changed(record.spec, changes) if changes else record.spec
    return file_audit(dependencies, owner, spec, idempotency_key=idempotency_key)


def _changed(spec: AuditSpec, changes: Mapping[str, Any]) -> AuditSpec:
    document = spec.model_dump(exclude_none=True)
    if not _QUESTIONS.isdisjoint(changes):
        document = {name: value for name, value in document.items() if name not in _QUESTIONS - changes.keys()}
    for name, value in changes.items():
        old = document.get(name)
        parts = name in _IN_PARTS and isinstance(old, dict) and isinstance(value, dict)
        document[name] = old | value if parts and old is not None else value
    try:
        return AuditSpec.model_validate(document, strict=True)
    except ValidationError as error:
        faults = [
            ErrorItem(fault.place, f"#/changes{fault.pointer.removeprefix('#')}", fault.detail)
            for fault in body_items(error, document)
        ]
        raise InvalidRequest(errors=faults) from None


def delete_audit(dependencies: Dependencies, owner: str, audit_id: str) -> None:
    """Remove an audit that has ended, with its report and artifacts.

    Raises:
        AuditNotFound, AuditNotTerminal: as their names say.
    """
    record = dependencies.ledger.get(audit_id, owner=owner)
    if record.status not in TERMINAL:
        raise AuditNotTerminal(audit_id, record.status)
    # Artifacts first: after a crash in between, the audit is still listed and can be deleted again.
    dependencies.artifacts.delete(audit_id)
    dependencies.ledger.delete(audit_id, owner=owner)


def enqueue(dependencies: Dependencies, audit_id: str) -> None:
    """Enqueue an audit. It is safe in the ledger: if this fails, the reaper enqueues it later."""
    try:
        dependencies.dispatcher.enqueue(audit_id)
        dependencies.ledger.mark_enqueued(audit_id)
    except (BrokerUnavailable, LedgerError) as error:
        log.warning("audit.enqueue_failed", audit_id=audit_id, error=type(error).__name__)
