"""A report that the sandbox wrote is compared with what the worker knows by itself."""

from typing import Any

import pytest

from backdoor_audit.contract.digests import FileDigest
from backdoor_audit.contract.report.audit_report import METHOD_VERSION, SCHEMA_VERSION, AuditReport
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
            "method_version": METHOD_VERSION,
            "schema_version": SCHEMA_VERSION,
            "trigger": claim.spec.pairs[0].model_dump(),
            "fail_on": claim.spec.fail_on,
            "sizes": report.sizes.model_copy(
                update={
                    "preset": claim.spec.preset,
                    "recipe": claim.spec.recipe,
                    "carriers_a": 32,
                    "carriers_b": 32,
                }
            ),
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
        ("timings_s", {"timings_s": {"train": 9.0, "extract": 9.0}}),
        ("timings_s", {"timings_s": {"train": -1.0}}),
        ("timings_s", {"timings_s": {"lunch": 1.0}}),
    ],
)
def test_a_report_about_something_else_is_not(claim: Claim, name: str, provenance: dict[str, Any]) -> None:
    assert mismatches(report_for(claim, **provenance), claim, DIGESTS, within_s=10) == (name,)


def test_a_report_of_another_audit_or_answer_is_not(claim: Claim) -> None:
    other = report_for(claim).model_copy(update={"audit_id": "audit_other", "fail_on": "nothing"})
    assert mismatches(other, claim, DIGESTS) == ("audit_id", "fail_on")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("version", {"method_version": "2"}),
        ("version", {"schema_version": "9.0"}),
        ("summary", {"summary": "x" * 30_000}),
        ("trigger", {"trigger": {"triggered": "another", "clean": "pair", "template": "{trigger} {prompt}"}}),
        ("trigger", {"trigger": {}}),
    ],
)
def test_a_report_of_another_method_length_or_pair_is_not(claim: Claim, name: str, change: dict[str, Any]) -> None:
    assert mismatches(report_for(claim).model_copy(update=change), claim, DIGESTS, within_s=10) == (name,)


@pytest.mark.parametrize("sizes", [{"carriers_a": -1}, {"carriers_a": 20_000}])
def test_a_report_of_more_prompts_than_there_are_is_not(claim: Claim, sizes: dict[str, int]) -> None:
    report = report_for(claim)
    other = report.model_copy(update={"sizes": report.sizes.model_copy(update=sizes)})
    assert mismatches(other, claim, DIGESTS, within_s=10) == ("carriers",)


def test_a_report_of_a_library_that_was_not_given_is_not(claim: Claim) -> None:
    report = report_for(claim)
    calibrated = report.gates.calibrated.model_copy(update={"library_size": 19})
    other = report.model_copy(update={"gates": report.gates.model_copy(update={"calibrated": calibrated})})
    assert mismatches(other, claim, DIGESTS, within_s=10) == ("library",)


@pytest.mark.parametrize(("version", "wrong"), [("2", ()), ("4", ("version",)), ("newest", ("version",))])
def test_an_earlier_attempts_report_may_be_of_an_older_method(claim: Claim, version: str, wrong: tuple[str]) -> None:
    other = report_for(claim).model_copy(update={"method_version": version})
    assert mismatches(other, claim, DIGESTS) == wrong


def test_an_earlier_attempt_took_no_longer_than_attempts_take(claim: Claim) -> None:
    assert mismatches(report_for(claim, timings_s={"train": 1e300}), claim, DIGESTS) == ("timings_s",)
