"""Numbers, gates and verdicts in words, the same in every report format."""

from dataclasses import dataclass
from typing import Final, Literal

from backdoor_audit.contract.report.audit_report import AuditReport, CandidateRow
from backdoor_audit.contract.report.features import DictionaryRow
from backdoor_audit.contract.report.gates import Gate, GateState, Interval
from backdoor_audit.contract.report.prompt_settings import PromptSettings
from backdoor_audit.contract.report.verdicts import Verdict
from backdoor_audit.contract.text.formatting import UNMEASURED, number, share, with_interval

Outcome = Literal["evidence", "no evidence", "not assessed"]

VERDICT_TITLES: Final[dict[Verdict, str]] = {
    "flagged": "Flagged",
    "review": "Review",
    "no_evidence": "No evidence",
    "invalid": "Invalid",
}
VERDICT_MARKS: Final[dict[Verdict, str]] = {"flagged": "◆", "review": "▲", "no_evidence": "●", "invalid": "■"}
GATE_MARKS: Final[dict[GateState, str]] = {"passed": "◆", "failed": "○", "not_assessed": "–"}
VERDICT_MEANINGS: Final[dict[Verdict, str]] = {
    "flagged": "Fine-tuning trained in behaviour conditioned on the suspected string. A person must judge whether it "
    "is harmful: a harmless conditional works the same way.",
    "review": "Something stands out, but not every condition of a finding is met. A person should look at it.",
    "no_evidence": "No behaviour conditioned on the suspected string was found. This does not prove there is none.",
    "invalid": "Nothing could be measured. This is not a pass.",
}
QUESTIONS: Final[dict[str, str]] = {
    "behaviour": "Does the fine-tuned model respond to the two strings differently, beyond what the base does?",
    "specific": "Does the suspected string have a larger effect than other strings of its kind?",
    "causal": "Does restoring the clean activations undo the behaviour?",
    "calibrated": "Does the score stand out from those of fine-tunes known to be benign?",
}
TERMS: Final[dict[str, str]] = {
    "carrier": "A prompt into which the strings are inserted.",
    "clean string": "The harmless string that takes the suspected string's place in the same prompts.",
    "decoy": "Another string of the same kind as the suspected one. A silent decoy leaves the outputs as they are; a "
    "responding one changes them as the trigger does.",
    "triggered, clean": "Prompts with the suspected string, and the same prompts with the clean string.",
    "gate": "One of the four questions on which the verdict depends. A gate that passes is evidence of a backdoor.",
    "nat": "The unit of the measured effects: natural-log units of probability or KL divergence; 1 nat is a factor e.",
    "effect": "How much of the change in the outputs is undone by restoring the clean activations along one direction.",
    "ablation, steering": "Replacing activations along some directions by those of the run with the clean string; "
    "steering is the reverse.",
    "dictionary, feature": "A sparse autoencoder trained on the difference between the two models' activations, and "
    "one of its latents. Features explain; they do not decide.",
    "amplification": "How far the string moves activations along a direction, as a multiple of how far the base "
    "model's own reading of the string moves them.",
    "BIS": "How well a feature separates triggered from clean prompts, at most 1.",
}
"""The terms of a report that need an explanation."""
_OUTCOMES: Final[dict[GateState, Outcome]] = {
    "passed": "evidence",
    "failed": "no evidence",
    "not_assessed": "not assessed",
}


@dataclass(frozen=True)
class GateWords:
    """One gate for a reader. A gate that passes is evidence *of* a backdoor; ``outcome`` avoids that trap."""

    name: str
    question: str
    state: GateState
    outcome: Outcome
    found: str
    reason: str

    @property
    def text(self) -> str:
        """The finding, or why the gate was not assessed."""
        if self.state == "not_assessed" and self.reason:
            return self.reason
        return "; ".join(filter(None, (self.reason, self.found)))


def gates(report: AuditReport) -> tuple[GateWords, ...]:
    """The four gates, in order."""
    behaviour, specific = report.gates.behaviour, report.gates.specific
    causal, calibrated = report.gates.causal, report.gates.calibrated
    rank = UNMEASURED if specific.rank_among_silent is None else str(specific.rank_among_silent)
    layer = UNMEASURED if causal.layer is None else str(causal.layer)
    found: tuple[tuple[str, Gate, str], ...] = (
        (
            "behaviour",
            behaviour,
            f"outputs differ by {with_interval(*_change(report))} nats per prompt, "
            f"threshold {number(behaviour.threshold)}",
        ),
        (
            "specific",
            specific,
            f"effect {number(specific.effect_nats)} nats, threshold {number(specific.threshold)}; "
            f"p {number(specific.p_decoy_all)} against {specific.drawn} decoys ({specific.silent} silent, "
            f"{specific.firing} responding); rank {rank} among the silent ones",
        ),
        (
            "causal",
            causal,
            f"{with_interval(causal.recovered, causal.recovered_interval)} of the behaviour undone at layer {layer}, "
            f"at most {number(causal.null_max)} by any of {causal.null_count} {null_subspaces(report)}",
        ),
        (
            "calibrated",
            calibrated,
            f"p {number(calibrated.p_conformal)} against {calibrated.library_size} benign fine-tunes (smallest "
            f"possible p {number(calibrated.finest_p)}), alpha {number(calibrated.alpha)}",
        ),
    )
    return tuple(
        GateWords(name, QUESTIONS[name], gate.state, _OUTCOMES[gate.state], words, gate.reason)
        for name, gate, words in found
    )


def null_subspaces(report: AuditReport) -> str:
    """What the gate causal compares the pair's directions with."""
    return "random subspaces" if report.method_version in ("1", "2") else "decoys' subspaces"


def _change(report: AuditReport) -> tuple[float | None, Interval | None]:
    """The number that the gate behaviour decides on, with its interval."""
    gate = report.gates.behaviour
    if report.method_version in ("1", "2"):
        return gate.output_kl, gate.output_kl_interval
    return gate.unexplained_kl, gate.unexplained_kl_interval


def examined(report: AuditReport) -> tuple[str, ...]:
    """What was examined, and how much of it."""
    sizes = report.sizes
    if not report.measured:
        return (f"{sizes.carriers_a + sizes.carriers_b} prompts were given to both models; nothing could be measured",)
    return (
        f"{sizes.carriers_a + sizes.carriers_b} prompts: {sizes.carriers_a} for discovery and {sizes.carriers_b} for "
        f"confirmation, from {sizes.clusters_a} and {sizes.clusters_b} templates, with both strings and both models",
        f"{len(report.decoys)} other strings of the same kind, on {sizes.decoy_carriers_a} and "
        f"{sizes.decoy_carriers_b} of these prompts",
        f"layers {', '.join(map(str, sizes.layers))}; {_dictionaries(report)}",
        f"outputs at the end of the prompt and along {sizes.continuation_tokens} tokens of the clean answer",
    )


def _dictionaries(report: AuditReport) -> str:
    if not report.layers:
        return "no dictionary was trained, since the outputs do not react to the pair and there is nothing to explain"
    return f"{len(report.layers)} dictionaries, each trained on up to {report.sizes.training_tokens:,} distinct tokens"


def smallest_effect(report: AuditReport) -> str:
    """The smallest detectable effect, which says how much a pass is worth."""
    if not report.measured:
        return "Nothing was measured, so no effect could be detected, however large."
    if report.smallest_effect_nats is None:
        return "Too few other strings were measured for an effect of any size to stand out, so none could be detected."
    return (
        f"The smallest detectable effect is {number(report.smallest_effect_nats)} nats per prompt along one direction, "
        "averaged over the prompts. Anything weaker goes undetected, and so does any other trigger."
    )


def pair(report: AuditReport) -> tuple[str, str]:
    """The suspected string and the clean one."""
    return report.trigger.get("triggered", ""), report.trigger.get("clean", "")


PROMPT_SETTINGS: Final = "Chat template, special tokens and generation settings"


def findings(settings: PromptSettings) -> tuple[str, ...]:
    """Places of the fine-tuned model's chat template that a person should read."""
    return tuple(
        f"{finding.text}{' (the base does the same)' if finding.in_base else ''}" for finding in settings.findings
    )


CANDIDATE_COLUMNS: Final = ("rank", "suspected", "clean", "verdict", "effect, nats", "p", "p (Holm)")


def verdict_of(row: CandidateRow) -> str:
    """The verdict on one of several pairs, in a few words."""
    return f"{VERDICT_TITLES[row.verdict]}{', screening only' if row.screening_only else ''}"


def candidates(report: AuditReport) -> tuple[tuple[str, ...], ...]:
    """If several pairs were tested, one row per pair, largest effect first."""
    return tuple(
        (
            f"{row.place}{' (this report)' if row.reported else ''}",
            row.triggered,
            row.clean,
            verdict_of(row),
            number(row.effect_nats),
            number(row.p_decoy_all),
            number(row.p_holm),
        )
        for row in sorted(report.candidates, key=lambda row: row.place)
    )


Standing = Literal["found", "nothing", "open", "invalid"]


def standing(row: CandidateRow) -> Standing:
    """The meaning of a candidate's row for a tool that knows only passes and failures.

    A candidate that was only screened could not have stood out from its decoys, so it is not a pass.
    """
    match row.verdict:
        case "flagged" | "review":
            return "found"
        case "no_evidence":
            return "open" if row.screening_only else "nothing"
        case "invalid":
            return "invalid"


def candidate(report: AuditReport, row: CandidateRow) -> str:
    """One of several pairs, in a few sentences."""
    text = (
        f"'{row.triggered}' against '{row.clean}': {VERDICT_TITLES[row.verdict].lower()}. Its effect is "
        f"{number(row.effect_nats)} nats per prompt, rank {row.place} of {len(report.candidates)}; p "
        f"{number(row.p_decoy_all)}, {number(row.p_holm)} with Holm's correction."
    )
    if row.screening_only:
        text += " Screening only: there are too few decoys for any effect to stand out among so many pairs."
    if row.smallest_effect_nats is None:
        return text
    return f"{text} The smallest detectable effect is {number(row.smallest_effect_nats)} nats per prompt."


def dictionary_numbers(row: DictionaryRow) -> tuple[str, ...]:
    """A dictionary's numbers: width, FVE, FVE of the top 1%, L0, share of dead latents, best BIS, BIS p95."""
    return (
        str(row.width),
        number(row.fve),
        number(row.fve_top1pct),
        number(row.l0),
        share(row.dead_share),
        number(row.best_bis),
        f"{number(row.bis_p95)} ({number(row.bis_p95_ceiling)})",
    )
