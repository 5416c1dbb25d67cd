"""Whether a report can be the answer to what was asked: compared with what the worker knows without the sandbox."""

from collections.abc import Iterator

from backdoor_audit.contract.digests import content_digest
from backdoor_audit.contract.report.audit_report import AuditReport
from jobs.records import Claim

_SLACK_S = 5.0


def mismatches(
    report: AuditReport, claim: Claim, digests: tuple[str, str], *, within_s: float | None = None
) -> tuple[str, ...]:
    """Names of what differs; none where the report may be believed.

    Args:
        report: what the sandbox wrote.
        claim: the audit that was claimed.
        digests: content digests of the base and the fine-tuned checkpoint, as the worker resolved them.
        within_s: how long the sandbox has run; None for one of an earlier attempt.
    """
    return tuple(_mismatches(report, claim, digests, within_s))


def _mismatches(report: AuditReport, claim: Claim, digests: tuple[str, str], within_s: float | None) -> Iterator[str]:
    spec, provenance = claim.spec, report.provenance
    if report.audit_id != claim.audit_id:
        yield "audit_id"
    if provenance.spec_digest != spec.digest():
        yield "spec_digest"
    if (provenance.base_digest, provenance.tuned_digest) != digests:
        yield "digests"
    for files, digest in zip((provenance.base_files, provenance.tuned_files), digests, strict=True):
        # None at all: an earlier attempt's worker was older.
        if files and content_digest((file.name, file.sha256) for file in files) != digest:
            yield "files"
    if report.fail_on != spec.fail_on:
        yield "fail_on"
    if (report.sizes.preset, report.sizes.recipe) != (spec.preset, spec.recipe):
        yield "sizes"
    if spec.search is None:
        known = len(report.candidates) in (0, len(spec.candidates or ()))
    else:
        known = len(report.candidates) <= spec.search.candidates
    if not known:
        yield "candidates"
    if (report.search is None) != (spec.search is None):
        yield "search"
    longest = max(provenance.timings_s.values(), default=0)
    if within_s is not None and not longest <= within_s + _SLACK_S:  # not a number is not within it
        yield "timings_s"
