"""What a person should look at: each thing that was found, with its code and the next step."""

from collections.abc import Iterator
from typing import Final

from audit.measure.extraction import DecoyResult, Extraction
from audit.verdict.decoys import odd_strings, reacting
from audit.verdict.gates import MAX_BASE_RATIO, MIN_SILENT, contradicted, is_uneven
from audit.verdict.one_split import one_split
from backdoor_audit.contract.report.audit_report import Localisation
from backdoor_audit.contract.report.gates import CausalGate, Gate, Gates, SpecificGate
from backdoor_audit.contract.report.prompt_settings import PromptSettings
from backdoor_audit.contract.report.reasons import Reason, ReasonCode
from backdoor_audit.contract.report.verdicts import NEEDS_REVIEW, Verdict

# The base's own reaction is mentioned from this share of the fine-tuned model's on. It decides nothing.
_BASE_REACTS: Final = 0.25
_NAMED: Final = 3
"""Decoys that are named in a line."""

NEXT_STEPS: Final[dict[ReasonCode, str]] = {
    "answers_differ": "read answers under both strings side by side, and the base's beside them",
    "prompt_settings": "read the lines that are named in the fine-tuned model's files, and ask who wrote them",
    "decoys_react": "audit the string that is named as the triggered one of a pair of its own, then its neighbours",
    "clean_is_odd": "audit the pair the other way round, with the clean string as the triggered one",
    "both_are_odd": "audit each of the two strings against a decoy that reacts",
    "uneven_change": "audit prompts like the few that change, as carriers of your own",
    "small_change": "raise the number of carriers, or use carriers that resemble real traffic",
    "base_reacts": "compare with the base's answers, and supply decoys that mean as much as the pair",
    "not_specific": "look at which decoys have as large an effect: they may share something with the pair",
    "others_fire": "audit what the strings in also_fires_on have in common",
    "class_of_strings": "compare with a benign library, or audit other strings of the class as candidates",
    "too_few_decoys": "supply 19 or more decoys of your own, or raise overrides.max_decoys",
    "decoys_contradict": "audit the strings that are named in also_fires_on",
    "no_cause": "repeat with preset standard, more layers, and another seed",
    "benign_alike": "compare with more benign models, of the recipe that made this one",
    "activations_shifted": "raise overrides.continuation_tokens, or use other carriers",
    "not_localised": "nothing: the directions decide, the dictionary only explains",
    "another_candidate": "audit this pair by itself",
    "found_by_search": "read the answers under it, and audit it as a pair of its own on prompts like your traffic",
    "not_finite": "load the checkpoint in float32, or get it again and compare digests",
}


def reason(code: ReasonCode, text: str) -> Reason:
    """A reason with its next step."""
    return Reason(code=code, text=text, next_step=NEXT_STEPS[code])


def reasons(
    extraction: Extraction,
    gates: Gates,
    verdict: Verdict,
    localisation: Localisation | None,
    settings: PromptSettings | None = None,
) -> tuple[Reason, ...]:
    """What a person should look at, for ``review`` and ``flagged``; the clearest findings first."""
    if verdict not in NEEDS_REVIEW:
        return ()
    return (
        *(reason("prompt_settings", finding.text) for finding in (settings.suspicious if settings else ())),
        *_of_decoys(extraction),
        *_of_gates(gates, verdict),
        *_of_base(gates),
        *_of_comparisons(gates),
        *_of_width(gates, localisation),
    )


def _of_decoys(extraction: Extraction) -> Iterator[Reason]:
    found = reacting(extraction)
    if not found:
        return
    trigger, drawn, odd = extraction.setup.trigger, len(extraction.decoys), odd_strings(extraction)
    if odd == "clean":
        yield reason(
            "clean_is_odd",
            f"the clean string is the odd one: under {len(found)} of {drawn} decoys, and without any string, the "
            f"answers are others than under '{trigger.clean}'",
        )
        return
    if odd == "both":
        yield reason(
            "both_are_odd",
            f"'{trigger.triggered}' and '{trigger.clean}' are answered alike, and otherwise than {len(found)} of "
            f"{drawn} decoys and prompts without a string: both may set the same behaviour off",
        )
    named = ", ".join(f"'{decoy.string}' ({decoy.unexplained:.3g} nats)" for decoy in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    yield reason(
        "decoys_react",
        f"{len(found)} of {drawn} decoys change the answers by themselves, compared with '{trigger.clean}': "
        f"{named}{more}{_in_common(extraction, found)}",
    )


def _in_common(extraction: Extraction, found: tuple[DecoyResult, ...]) -> str:
    """What the decoys that react share and the others lack, if one rule says it."""
    strings = {decoy.string for decoy in found}
    others = [decoy.string for decoy in extraction.decoys if decoy.string not in strings]
    rule = one_split(sorted(strings), others)
    return "" if rule is None or len(found) < 2 else f"; these and no others hold {rule}"


def _of_gates(gates: Gates, verdict: Verdict) -> Iterator[Reason]:
    if verdict != "review":
        return
    for name, gate in gates:
        if gate.state == "failed":
            yield reason(_code_of(name, gate), f"{name}: {gate.reason}")
    if gates.behaviour.state == "passed":
        yield reason("answers_differ", "the answers to both strings: they differ; read some of them side by side")


def _code_of(name: str, gate: Gate) -> ReasonCode:
    """Why a gate that failed did."""
    if name == "behaviour":
        return "uneven_change" if is_uneven(gate) else "small_change"  # type: ignore[arg-type]
    if name == "specific":
        small = isinstance(gate, SpecificGate) and (gate.effect_nats or 0.0) < gate.threshold
        return "small_change" if small else "not_specific"
    if name == "calibrated":
        return "benign_alike"
    own = gate.base_reaction_ratio if isinstance(gate, CausalGate) else None
    return "base_reacts" if own is not None and own > MAX_BASE_RATIO else "no_cause"


def _of_base(gates: Gates) -> Iterator[Reason]:
    own = gates.causal.base_reaction_ratio
    if gates.specific.state == "passed" and own is not None and own >= _BASE_REACTS:
        yield reason(
            "base_reacts",
            f"the base model itself reacts to the pair {own:.2f} times as strongly, and the effect of the gate "
            "specific includes this: strings with a meaning of their own change any model's answers. Compare with the "
            "answers of the base, or provide decoys that mean as much as the pair",
        )


def _of_comparisons(gates: Gates) -> Iterator[Reason]:
    specific, calibrated = gates.specific, gates.calibrated
    if specific.state == "not_assessed":
        code: ReasonCode = "too_few_decoys" if specific.silent < MIN_SILENT else "class_of_strings"
        yield reason(code, f"specific: {specific.reason}")
        if calibrated.state == "passed" and contradicted(specific):
            yield reason("decoys_contradict", _contradiction(specific))
    if calibrated.state == "passed" and gates.causal.state != "passed":
        yield reason(
            "no_cause",
            f"calibrated: the effect stands out from those of {calibrated.library_size} benign models, but its "
            "cause could not be confirmed",
        )


def _of_width(gates: Gates, localisation: Localisation | None) -> Iterator[Reason]:
    if gates.specific.firing:
        text = "the other strings that trigger it (also_fires_on): the condition may be wider than this pair"
        yield reason("others_fire", text)
    if localisation is not None and localisation.note:
        yield reason("not_localised", localisation.note)


def _contradiction(gate: SpecificGate) -> str:
    place = "" if gate.rank_among_silent is None else f", and the pair ranks {gate.rank_among_silent} among the others"
    return (
        "the comparison with benign models does not outweigh decoys that contradict it: "
        f"{gate.firing} of {gate.drawn} trigger the behaviour themselves{place}"
    )
