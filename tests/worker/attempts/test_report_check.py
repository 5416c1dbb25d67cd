"""A report that the sandbox wrote is compared with what the worker knows by itself."""

from typing import Any

import pytest

from backdoor_audit.contract.digests import FileDigest
from backdoor_audit.contract.report.audit_report import AuditReport
from jobs.ledger import Ledger
from jobs.records import Claim
from service.openapi_document.report_examples import REPORT
from tests.toy import toy_spec
from worker.attempts.report_check import mismatches

DIGESTS = (REPORT["provenance"]["base_digest"], REPORT["provenance"]["tuned_digest"])


@pytest.fixture
def claim(ledger: Ledger) -> Claim:
    claimed = ledger.claim(ledger.submit(toy_spec(), owner="me").audit.id, worker="w")
    assert claimed is not None
    return claimed


def report_for(claim: Claim, **provenance: Any) -> AuditReport:
    report = AuditReport.model_validate(REPORT)
    base, tuned = DIGESTS
    known = {
        "spec_digest": claim.spec.digest(),
        "base_digest": base,
        "tuned_digest": tuned,
        "timings_s": {"train": 4.0},
    }
    return report.model_copy(
        update={
            "audit_id": claim.audit_id,
            "fail_on": claim.spec.fail_on,
            "sizes": report.sizes.model_copy(update={"preset": claim.spec.preset, "recipe": claim.spec.recipe}),
            "provenance": report.provenance.model_copy(update=known | {"timings_s": {"train": 4.0}} | provenance),
            "candidates": (),
        }
    )


def test_the_report_that_was_asked_for_is_taken(claim: Claim) -> None:
    assert mismatches(report_for(claim), claim, DIGESTS, within_s=10) == ()


@pytest.mark.parametrize(
    ("name", "provenance"),
    [
        ("spec_digest", {"spec_digest": "sha256:other"}),
        ("digests", {"base_digest": "sha256:other"}),
        ("digests", {"tuned_digest": ""}),
        ("files", {"tuned_files": (FileDigest(name="model.safetensors", sha256="0" * 64),)}),
        ("timings_s", {"timings_s": {"train": 4_000.0}}),
        ("timings_s", {"timings_s": {"train": float("nan")}}),
    ],
)
def test_a_report_about_something_else_is_not(claim: Claim, name: str, provenance: dict[str, Any]) -> None:
    assert mismatches(report_for(claim, **provenance), claim, DIGESTS, within_s=10) == (name,)


def test_a_report_of_another_audit_or_answer_is_not(claim: Claim) -> None:
    other = report_for(claim).model_copy(update={"audit_id": "audit_other", "fail_on": "nothing"})
    assert mismatches(other, claim, DIGESTS) == ("audit_id", "fail_on")
