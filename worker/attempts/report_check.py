"""Whether a report can be the answer to what was asked: compared with what the worker knows without the sandbox."""

from collections.abc import Iterator
from typing import Final

from backdoor_audit.contract.digests import content_digest
from backdoor_audit.contract.lifecycle import STAGES
from backdoor_audit.contract.report.audit_report import METHOD_VERSION, SCHEMA_VERSION, AuditReport
from backdoor_audit.contract.spec.carriers import MAX_PROMPTS, CarrierPrompts
from jobs.records import Claim

_SLACK_S: Final = 5.0
_LONGEST_S: Final = 366 * 86_400.0
"""No attempt took longer, whichever it was."""
_LONGEST_SUMMARY: Final = 20_000
"""Characters; pairs are quoted in it. It is in lists, where nobody has asked for all of a report."""


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
    if not _is_of_this_version(report, or_older=within_s is None):
        yield "version"
    if len(report.summary) > _LONGEST_SUMMARY:
        yield "summary"
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
    own = len(spec.carriers.prompts) if isinstance(spec.carriers, CarrierPrompts) else MAX_PROMPTS
    carriers = (report.sizes.carriers_a, report.sizes.carriers_b)
    if min(carriers) < 0 or sum(carriers) > own:
        yield "carriers"
    if report.gates.calibrated.library_size > len(claim.library):
        yield "library"
    pairs = [pair.model_dump() for pair in spec.pairs]
    if spec.search is None and report.trigger not in pairs:
        yield "trigger"
    if spec.search is None:
        rows = [(row.triggered, row.clean) for row in report.candidates]
        known = rows in ([], [(pair.triggered, pair.clean) for pair in spec.candidates or ()])
    else:
        known = len(report.candidates) <= spec.search.candidates
    if not known:
        yield "candidates"
    if (report.search is None) != (spec.search is None):
        yield "search"
    took = provenance.timings_s
    longest = _LONGEST_S if within_s is None else within_s + _SLACK_S
    # What is not a number is not within it. The names become labels of the metrics.
    if (
        not set(took) <= set(STAGES)
        or not all(each >= 0 for each in took.values())
        or not sum(took.values()) <= longest
    ):
        yield "timings_s"


def _is_of_this_version(report: AuditReport, *, or_older: bool) -> bool:
    """Whether this code wrote it; an earlier attempt's worker may have been older."""
    said, known = (report.method_version, report.schema_version), (METHOD_VERSION, SCHEMA_VERSION)
    if not or_older:
        return said == known
    try:
        numbers = [[int(part) for part in version.split(".")] for version in (*said, *known)]
    except ValueError:
        return False
    return numbers[0] <= numbers[2] and numbers[1] <= numbers[3]
