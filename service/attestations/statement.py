"""The in-toto statement about one audit."""

import hashlib

from backdoor_audit.contract.attestation import (
    AttestedDecision,
    AttestedModel,
    AuditPredicate,
    Serialization,
    Statement,
    resources_of,
)
from service.errors import FilesUnknown
from service.reports.formats import FORMATS
from service.reports.subject import Subject
from service.version import API_VERSION


def statement_of(subject: Subject) -> Statement:
    """What may be signed about a report.

    Raises:
        FilesUnknown: the report does not list the files of its models.
    """
    report = subject.report
    provenance = report.provenance
    if not provenance.tuned_files or not provenance.base_files:
        raise FilesUnknown
    predicate = AuditPredicate(
        audit_id=report.audit_id,
        verdict=report.verdict,
        fail_on=report.fail_on,
        trigger=report.trigger,
        candidates=max(len(report.candidates), 1),
        method_version=report.method_version,
        spec_digest=provenance.spec_digest,
        report_digest=report_digest(subject),
        service_version=API_VERSION,
        finished_at=subject.finished_at,
        reference=subject.fine_tuned,
        digest=provenance.tuned_digest,
        serialization=Serialization(),
        resources=resources_of(provenance.tuned_files),
        base=AttestedModel(
            reference=subject.base_model,
            digest=provenance.base_digest,
            resources=resources_of(provenance.base_files),
        ),
        decisions=tuple(
            AttestedDecision(
                decision=each.choice, decided_by=each.decided_by, because=each.because, created_at=each.created_at
            )
            for each in subject.decisions
        ),
    )
    return Statement.about(name_of(subject.fine_tuned), predicate)


def report_digest(subject: Subject) -> str:
    """SHA-256 of the JSON report as this service gives it, hexadecimal."""
    return hashlib.sha256(FORMATS[0].render(subject)).hexdigest()


def name_of(reference: str) -> str:
    """The last part of a reference's path, as a folder is named; a version or commit stays."""
    return reference.partition(":")[2].rstrip("/").rpartition("/")[2]
