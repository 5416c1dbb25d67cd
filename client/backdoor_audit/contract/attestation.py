"""What an attestation says: an in-toto statement that binds a verdict to the files of a checkpoint.

The files are listed as OpenSSF's model signing lists them, and the statement's subject is the digest that it computes
over them: both name the same thing (https://github.com/ossf/model-signing-spec). ``openapi/attestation.schema.json`` is
the schema of the predicate.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from backdoor_audit.contract.base import Frozen
from backdoor_audit.contract.decisions import Choice
from backdoor_audit.contract.digests import FileDigest, Sha256, content_digest
from backdoor_audit.contract.report.verdicts import FailOn, Verdict

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:backdoor-audit:attestation:1"
"""Holds the major version of the predicate: within it, fields are added but never removed or changed in meaning."""
STATEMENT_MEDIA_TYPE: Final = "application/vnd.in-toto+json"
"""A statement, and the type of an envelope's payload."""
ENVELOPE_MEDIA_TYPE: Final = "application/vnd.dsse.envelope.v1+json"


class Resource(Frozen):
    """One file, as in the predicate of OpenSSF's model signing."""

    name: str = Field(min_length=1, description="Path in the checkpoint's folder, with /.")
    algorithm: Literal["sha256"] = Field(description="Hash function of digest.")
    digest: Sha256 = Field(description="Digest of the file's content, hexadecimal.")


class Serialization(Frozen):
    """How files become the subject's digest, as in the predicate of OpenSSF's model signing."""

    method: Literal["files"] = Field(default="files", description="Each file has one digest.")
    hash_type: Literal["sha256"] = Field(default="sha256", description="Hash function.")
    allow_symlinks: bool = Field(default=False, description="Whether links were followed; the audit's copy has none.")
    ignore_paths: tuple[str, ...] = Field(
        default=(), description="Always empty: resources lists the files from which a model is read, and no others."
    )


class AttestedModel(Frozen):
    """The base model, which the fine-tuned one was compared with."""

    reference: str = Field(description="How the audit's spec names it.")
    digest: str = Field(description="Content digest, as in the report's provenance.")
    resources: tuple[Resource, ...] = Field(description="Its files.")


class AttestedDecision(Frozen):
    """What somebody decided about the audit's result."""

    decision: Choice = Field(description="`accepted` lets the model be used, whatever the verdict.")
    decided_by: str = Field(description="Who, as they say.")
    because: str = Field(description="Why.")
    created_at: datetime = Field(description="When.")


class AuditPredicate(Frozen):
    """The result of one audit of the subject."""

    audit_id: str = Field(description="Id of the audit.")
    verdict: Verdict = Field(description="Verdict by the four gates; never a judgement on intent.")
    fail_on: FailOn = Field(description="The verdict that fails a pipeline, from the spec.")
    trigger: dict[str, str] = Field(description="The pair that the report is about, and its template.")
    candidates: int = Field(ge=1, description="Number of pairs that the audit tested.")
    method_version: str = Field(description="Version of the method.")
    spec_digest: str = Field(description="Digest of the spec.")
    report_digest: Sha256 = Field(
        description="SHA-256 of the JSON report as the service gave it when the statement was made, hexadecimal."
    )
    service_version: str = Field(description="Version of the service that made the statement.")
    finished_at: datetime | None = Field(description="When the audit ended.")
    reference: str = Field(description="How the spec names the fine-tuned model, which is the subject.")
    digest: str = Field(description="Content digest of the subject, as in the report's provenance.")
    serialization: Serialization = Field(description="How resources become the subject's digest.")
    resources: tuple[Resource, ...] = Field(min_length=1, description="The subject's files, sorted by path.")
    base: AttestedModel = Field(description="The base model.")
    decisions: tuple[AttestedDecision, ...] = Field(description="The first one first; the last one holds.")

    @property
    def accepted(self) -> bool:
        """Whether the decision that holds lets the model be used."""
        return bool(self.decisions) and self.decisions[-1].decision == "accepted"


class SubjectDigest(Frozen):
    """The digest of a subject."""

    sha256: Sha256


class StatementSubject(Frozen):
    """What a statement is about."""

    name: str
    digest: SubjectDigest


class Statement(Frozen):
    """An in-toto statement (v1) about one audited checkpoint.

    Raises:
        ValueError: on construction, if the digests of the subject are not those of the files that it lists.
    """

    type: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT_TYPE, alias="_type")
    subject: tuple[StatementSubject] = Field(description="The audited checkpoint.")
    predicate_type: Literal["urn:backdoor-audit:attestation:1"] = Field(default=PREDICATE_TYPE, alias="predicateType")
    predicate: AuditPredicate

    @classmethod
    def about(cls, name: str, predicate: AuditPredicate) -> Self:
        """The statement that a checkpoint of this name has this predicate."""
        subject = StatementSubject(name=name, digest=SubjectDigest(sha256=root_digest(predicate.resources)))
        return cls.model_validate({"subject": (subject,), "predicate": predicate})

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        files = [(each.name, each.digest) for each in self.predicate.resources]
        if self.subject[0].digest.sha256 != root_digest(self.predicate.resources):
            raise ValueError("the subject's digest is not that of the listed files")
        if self.predicate.digest != content_digest(files):
            raise ValueError("the content digest is not that of the listed files")
        return self

    def encoded(self) -> bytes:
        """The bytes that are signed."""
        return self.model_dump_json(by_alias=True).encode()


def resources_of(files: Iterable[FileDigest]) -> tuple[Resource, ...]:
    """Files in the order of OpenSSF's model signing: by the parts of their paths."""
    ordered = sorted(files, key=lambda file: PurePosixPath(file.name))
    return tuple(Resource(name=file.name, algorithm="sha256", digest=file.sha256) for file in ordered)


def root_digest(resources: Iterable[Resource]) -> str:
    """SHA-256 over the digests of all files, in order; hexadecimal, as OpenSSF's model signing computes it."""
    return hashlib.sha256(b"".join(bytes.fromhex(each.digest) for each in resources)).hexdigest()
