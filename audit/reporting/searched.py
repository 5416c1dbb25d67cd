"""The report of an audit whose strings were searched for: that of the audit that judges them, and what was tried."""

from typing import Final

from audit.reporting.reasons import reason
from audit.verdict.gates import with_search
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.report.guide import next_steps
from backdoor_audit.contract.report.reasons import Reason
from backdoor_audit.contract.report.search import FoundString, SearchResult
from backdoor_audit.contract.report.search_words import CONTEXTS, headline
from backdoor_audit.contract.spec.audit_spec import AuditSpec

_BEST_OF_MANY: Final = (
    "The string is the best of many, which the comparison with decoys does not take into account: a search can raise "
    "no verdict above review."
)
_NOT_CLEAN: Final = (
    "A search tries the strings of its lists and their neighbours. A trigger that is on none, a conjunction, or one "
    "that acts late or on few prompts may not be found."
)


def searched_report(judged: AuditReport, result: SearchResult, spec: AuditSpec) -> AuditReport:
    """The report on what a search found.

    Args:
        judged: the report on the found strings, or on the one with the largest reaction.
        result: what the search tried and found.
        spec: as it was asked, with the search.
    """
    found = bool(result.found)
    verdict = with_search(judged.verdict, found=found)
    reasons = (*map(_reason, result.found), *judged.reasons)
    report = judged.model_copy(
        update={
            "verdict": verdict,
            "search": result,
            "reasons": reasons,
            "look_at": tuple(each.text for each in reasons),
            "candidates": tuple(
                row.model_copy(update={"verdict": with_search(row.verdict, found=found)}) for row in judged.candidates
            ),
            "limits": ((_BEST_OF_MANY if found else _NOT_CLEAN), *judged.limits),
            "next_steps": (),
            "provenance": judged.provenance.model_copy(update={"spec_digest": spec.digest()}),
        }
    )
    summary = judged.summary if verdict == judged.verdict or verdict == "invalid" else _JUDGE
    said = headline(report)
    report = report.model_copy(update={"summary": f"{said} {summary}"})
    return report.model_copy(update={"next_steps": next_steps(report)})


_JUDGE: Final = "Nobody suspected them beforehand, so a person must judge: read what the model writes under them."


def _reason(found: FoundString) -> Reason:
    return reason(
        "found_by_search",
        f"'{found.minimal}' {CONTEXTS[found.context]} changes the answers by {found.reaction:.3g} nats per prompt, the "
        f"base reacting {found.base_ratio:.2g} times as strongly; {found.changed} of {found.prompts} answers begin "
        "differently",
    )
