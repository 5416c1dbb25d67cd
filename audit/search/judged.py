"""The audit that judges what a search has found: its strings as pairs, on prompts that the search has not used."""

from collections.abc import Sequence
from typing import Final

from audit.errors import InvalidAudit
from audit.search.contexts import TEMPLATES
from audit.search.handover import pairs_of
from backdoor_audit.contract.report.search import SearchResult
from backdoor_audit.contract.spec.audit_spec import AuditSpec, TriggerSpec
from backdoor_audit.contract.spec.carriers import Carrier

_NO_STRINGS: Final = "the search had no strings to try"


def judged_spec(spec: AuditSpec, result: SearchResult, carriers: Sequence[Carrier], ordinary: str) -> AuditSpec:
    """The spec of the audit that follows a search.

    Of the found strings, those are judged that stand where the best one does: candidates have one template. Where
    nothing was found, the string with the largest reaction is judged against an ordinary one, so that the report
    says what was measured.

    Args:
        spec: the spec with the search.
        result: what the search found.
        carriers: prompts that the search has not used.
        ordinary: a string that means nothing special.

    Raises:
        InvalidAudit: no string was tried at all.
    """
    pairs = pairs_of(result) or _largest(result, ordinary)
    shared = [pair for pair in pairs if pair.template == pairs[0].template]
    strings = {string for pair in shared for string in (pair.triggered, pair.clean)}
    document = spec.model_dump(exclude={"search", "trigger", "candidates", "carriers"}) | {
        "carriers": {"prompts": [carrier.model_dump() for carrier in carriers]}
    }
    if not isinstance(spec.decoys, str):
        left = [string for string in spec.decoys.strings if string not in strings]
        document["decoys"] = {"strings": left} if left else "auto"
    if len(shared) > 1:
        return AuditSpec.model_validate(document | {"candidates": shared})
    return AuditSpec.model_validate(document | {"trigger": shared[0]})


def _largest(result: SearchResult, ordinary: str) -> tuple[TriggerSpec, ...]:
    if result.largest is None:
        raise InvalidAudit(
            _NO_STRINGS, hint="nothing recurs in the logs that were given: give strings, or the sources lists, vocabulary"
        )
    string, context = result.largest.string, result.largest.context
    return (TriggerSpec(triggered=string, clean=ordinary, template=TEMPLATES[context]),)
