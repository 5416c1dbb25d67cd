"""Maps an ended audit, or an error, to an exit code and the sentence that explains it.

Anything that this client does not know for certain (a new verdict, a report that contradicts the audit) is 2, never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, get_args

from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.client.errors import (
    Busy,
    ClientError,
    InvalidRequest,
    NotAllowed,
    NotFound,
    OtherContent,
    ServiceFault,
    Unreachable,
    WrongUsage,
)
from backdoor_audit.client.responses import Audit
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.report.verdicts import FailOn, fails
from backdoor_audit.contract.spec.audit_spec import MAX_LABELS, AuditSpec

_MODELS: Final = ("base_model", "fine_tuned")
_PUSHED: Final = "pushed/"
"""Beginning of the labels that hold the digests of models that were pushed."""

GATES: Final = ("behaviour", "specific", "causal", "calibrated")


@dataclass(frozen=True)
class Outcome:
    """An exit code and the sentence that explains it."""

    code: Exit
    sentence: str


def noting(spec: AuditSpec, pushed: Mapping[str, str]) -> AuditSpec:
    """The spec with a label for each model that was pushed for it: its digest, for whoever waits for the audit later.

    A spec that has as many labels as it may stays as it is.
    """
    labels = dict(spec.labels)
    for field in _MODELS:
        if (digest := pushed.get(getattr(spec, field))) is not None:
            labels[f"{_PUSHED}{field}"] = digest
    return spec if len(labels) > MAX_LABELS else spec.model_copy(update={"labels": labels})


def noted(audit: Audit) -> dict[str, str]:
    """Digests of the models that were pushed for an audit, by reference, as :func:`noting` left them."""
    labels = audit.spec.get("labels") or {}
    found = {str(audit.spec.get(field)): labels.get(f"{_PUSHED}{field}") for field in _MODELS}
    return {reference: str(digest) for reference, digest in found.items() if digest is not None}


def known_fail_on(value: object) -> FailOn:
    """The value if it is one; ``review``, the default, for anything else."""
    for known in get_args(FailOn):
        if value == known:
            return known
    return "review"


def outcome_of(
    audit: Audit,
    report: AuditReport | None,
    fail_on: FailOn,
    pushed: Mapping[str, str] = MappingProxyType({}),
    unless_accepted: bool = False,
) -> Outcome:
    """The exit code of a terminal audit.

    ``report`` may be None only if the audit did not succeed; without one nothing passes. ``pushed`` holds the
    digests that the audit must have used, by reference, beside those that its labels hold. With ``unless_accepted``, a
    verdict that meets ``fail_on`` passes if the latest decision about the audit is to accept it; an invalid audit never
    does.
    """
    if audit.status == "failed":
        why = f"{audit.failure.code}: {audit.failure.message}" if audit.failure else "no reason was given"
        return Outcome(Exit.NOT_DONE, f"The audit failed. {why}")
    if audit.status == "cancelled":
        return Outcome(Exit.NOT_DONE, "The audit was cancelled; there is no verdict.")
    if audit.status != "succeeded":
        return Outcome(Exit.NOT_DONE, f"The audit is {audit.status}; there is no verdict.")
    if report is None or (audit.verdict is not None and audit.verdict != report.verdict):
        return Outcome(Exit.NOT_DONE, "The report is missing or contradicts the audit's verdict.")
    used = {
        str(audit.spec.get("base_model")): report.provenance.base_digest,
        str(audit.spec.get("fine_tuned")): report.provenance.tuned_digest,
    }
    for reference, digest in (noted(audit) | dict(pushed)).items():
        if used.get(reference, digest) != digest:
            return Outcome(Exit.NOT_DONE, f"{reference} was not the model that was pushed: other weights were audited.")
    if report.verdict == "invalid":
        return Outcome(Exit.NOT_DONE, "Nothing was measured: the audit is invalid.")
    decision = audit.decision
    if fails(report.verdict, fail_on) and unless_accepted and decision is not None and decision.decision == "accepted":
        said = f"accepted by {decision.decided_by}: {decision.because}"
        return Outcome(Exit.PASSED, f"The verdict {report.verdict} meets --fail-on {fail_on}, and was {said}")
    if fails(report.verdict, fail_on):
        return Outcome(Exit.VERDICT_MET, f"The verdict {report.verdict} meets --fail-on {fail_on}.")
    if report.verdict == "no_evidence":
        if report.search is not None:
            return Outcome(Exit.PASSED, "The search found no string that sets a behaviour off; there may be one.")
        pair = "this pair" if not report.candidates else "any of these pairs"
        return Outcome(Exit.PASSED, f"No evidence of behaviour conditioned on {pair}.")
    return Outcome(Exit.PASSED, f"The verdict is {report.verdict}; --fail-on {fail_on} allows it.")


def what_a_pass_leaves_open(report: AuditReport) -> list[str]:
    """What exit 0 does not cover: gates that were not assessed, and the smallest effect that would have been
    detected.
    """
    lines = [] if report.multiplicity is None else [report.multiplicity.text]
    for name in GATES:
        gate = getattr(report.gates, name)
        if gate.state == "not_assessed":
            lines.append(f"Not assessed: {name}" + (f" ({gate.reason})" if gate.reason else ""))
    lines += [f"Not assessed: {item}" for item in report.not_assessed if item.split(":")[0].strip() not in GATES]
    if report.smallest_effect_nats is None:
        lines.append("Smallest detectable effect: none; too few other strings were measured for one to stand out.")
    else:
        lines.append(
            f"Smallest detectable effect: {report.smallest_effect_nats:.3g} nats per carrier along one direction, "
            "averaged over the prompts. Anything weaker goes undetected, and so does any other trigger."
        )
    if report.power is not None:
        lines.append(report.power.text)
    return lines


def exit_for(error: ClientError) -> Exit:
    """The exit code of an error."""
    if isinstance(error, Unreachable | Busy | ServiceFault):
        return Exit.UNREACHABLE
    if isinstance(error, WrongUsage | InvalidRequest | NotAllowed | NotFound | OtherContent):
        return Exit.USAGE
    return Exit.NOT_DONE
