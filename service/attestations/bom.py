"""A CycloneDX bill of materials of an audited model (ML-BOM): its files, its base, its chat template, the audit.

cyclonedx-python-lib writes it, all but ``modelCard``, which that library does not know yet.
"""

import json
import uuid
from typing import Any, Final

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6

from backdoor_audit.contract.attestation import ENVELOPE_MEDIA_TYPE, resources_of, root_digest
from backdoor_audit.contract.checkpoint_files import is_adapter
from backdoor_audit.contract.digests import FileDigest
from service.attestations.statement import name_of, report_digest
from service.errors import FilesUnknown
from service.http.public_url import link
from service.reports.subject import Subject
from service.version import API_VERSION

MEDIA_TYPE: Final = "application/vnd.cyclonedx+json"
SPEC_VERSION: Final = "1.6"

_SPACE: Final = uuid.UUID("5a2f36b4-3f5e-4b0f-9c57-51f7f0a3d9c1")
"""Namespace of the serial numbers, so that the same audit and decisions have the same one."""


def bom_of(subject: Subject) -> bytes:
    """The bill of materials of the fine-tuned model of a report, as JSON.

    Raises:
        FilesUnknown: the report does not list the files of its models.
    """
    provenance = subject.report.provenance
    if not provenance.tuned_files or not provenance.base_files:
        raise FilesUnknown
    base = _model("base-model", subject.base_model, provenance.base_files, provenance.base_template_digest)
    tuned = _model("fine-tuned-model", subject.fine_tuned, provenance.tuned_files, provenance.tuned_template_digest)
    tuned.pedigree = Pedigree(ancestors=[_ancestor(base)], notes="Fine-tuned from this model.")
    tuned.properties.update(_audit_properties(subject))
    tuned.external_references.update(_evidence(subject))
    tool = Component(name="Backdoor Audit", type=ComponentType.APPLICATION, version=API_VERSION)
    bom = Bom(
        serial_number=uuid.uuid5(_SPACE, f"{subject.report.audit_id}:{len(subject.decisions)}"),
        components=[base],
        metadata=BomMetaData(component=tuned, timestamp=subject.finished_at, tools=ToolRepository(components=[tool])),
    )
    bom.register_dependency(tuned, [base])
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    document["metadata"]["component"]["modelCard"] = _model_card(subject)
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def _model(ref: str, reference: str, files: tuple[FileDigest, ...], template_digest: str) -> Component:
    parts = [
        Component(
            name=file.name,
            type=ComponentType.FILE,
            bom_ref=f"{ref}/{file.name}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=file.sha256)],
        )
        for file in files
    ]
    if template_digest:
        content = template_digest.removeprefix("sha256:")
        parts.append(
            Component(
                name="chat template",
                type=ComponentType.DATA,
                bom_ref=f"{ref}/chat-template",
                description="Digest of the chat templates, as in the audit's report.",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content)],
            )
        )
    kind = "adapter" if is_adapter([file.name for file in files]) else "checkpoint"
    return Component(
        name=name_of(reference),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=ref,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=root_digest(resources_of(files)))],
        properties=[
            Property(name="backdoor-audit:kind", value=kind),
            Property(name="backdoor-audit:reference", value=reference),
        ],
        components=parts,
    )


def _ancestor(base: Component) -> Component:
    """The base once more, as the pedigree names it; it is described among the components."""
    return Component(name=base.name, type=base.type, hashes=base.hashes)


def _audit_properties(subject: Subject) -> list[Property]:
    report = subject.report
    values = {
        "audit-id": report.audit_id,
        "verdict": report.verdict,
        "triggered": report.trigger["triggered"],
        "clean": report.trigger["clean"],
        "method-version": report.method_version,
        "spec-digest": report.provenance.spec_digest,
    }
    if subject.decisions:
        last = subject.decisions[-1]
        values |= {"decision": last.choice, "decided-by": last.decided_by, "decided-because": last.because}
    return [Property(name=f"backdoor-audit:{name}", value=value) for name, value in values.items()]


def _evidence(subject: Subject) -> list[ExternalReference]:
    here = f"/audits/{subject.report.audit_id}"
    return [
        ExternalReference(
            type=ExternalReferenceType.EVIDENCE,
            url=XsUri(link(f"{here}/report?format=json")),
            comment="Report of the audit for behaviour conditioned on a trigger",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=report_digest(subject))],
        ),
        ExternalReference(
            type=ExternalReferenceType.ATTESTATION,
            url=XsUri(link(f"{here}/attestation")),
            comment=f"Signed statement about the audit ({ENVELOPE_MEDIA_TYPE})",
        ),
    ]


def _model_card(subject: Subject) -> dict[str, Any]:
    report = subject.report
    metrics = [{"type": "backdoor audit: verdict", "value": report.verdict}]
    effect = report.gates.causal.effect_nats
    if effect is not None:
        metrics.append({"type": "backdoor audit: causal effect, nats per carrier", "value": repr(effect)})
    return {
        "modelParameters": {"task": "text-generation"},
        "quantitativeAnalysis": {"performanceMetrics": metrics},
        "considerations": {"technicalLimitations": list(report.limits)},
    }
