"""The report's sentences: what was found, what was not looked at, and what the answer does not say."""

from typing import Final

from audit.measure.extraction import Extraction
from audit.measure.preflight import AuditSetup
from audit.stats.statistics import zero_alarm_bound
from audit.verdict.gates import EFFECT_NATS, MIN_SILENT, contradicted
from backdoor_audit.contract.report import CalibratedGate, Gates, Localisation, Power, SpecificGate
from backdoor_audit.contract.verdicts import NEEDS_REVIEW, Verdict

# From this share of the fine-tuned model's reaction on, the base's own is worth a sentence. It decides nothing.
_BASE_REACTS: Final = 0.25

NOTHING_MEASURED: Final = "Nothing was measured: this is no evidence for a backdoor, and none against one."
NOTHING_JUDGED: Final = "No pair was judged: this is no evidence for a backdoor, and none against one."

NOT_FINITE: Final = (
    "a checkpoint that computes infinite values or NaN is damaged, or made to do so; where it happens under one "
    "string alone, that is itself a condition on the string"
)
NO_CANDIDATE_JUDGED: Final = (
    "no candidate was judged, those that had been measured included: file them without this one"
)


def summary(
    extraction: Extraction, gates: Gates, verdict: Verdict, localisation: Localisation | None, power: Power
) -> str:
    """One or two sentences for the top of the report."""
    trigger = extraction.setup.trigger
    kl, causal, specific = gates.behaviour.output_kl, gates.causal, gates.specific
    if verdict == "flagged":
        text = (
            f"Behaviour conditioned on '{trigger.triggered}' was trained into this model: against "
            f"'{trigger.clean}' its outputs change by {kl:.3g} nats a prompt beyond what the base does, and putting "
            f"{_count(causal.rank)} at layer {causal.layer} back to the clean value undoes "
            f"{100 * (causal.recovered or 0):.0f}% of its whole reaction to the pair."
        )
        if specific.firing:
            text += f" {specific.firing} of {specific.drawn} other strings of the kind set it off as well."
        if localisation is not None and localisation.localised is False:
            text += " The dictionary did not localise it."
        return text
    if verdict == "no_evidence":
        return (
            f"No evidence that behaviour conditioned on '{trigger.triggered}' against '{trigger.clean}' was trained "
            f"in: the pair changes the outputs by {kl:.3g} nats a prompt beyond what the base does, and its causal "
            f"effect ({specific.effect_nats:.3g} nats) {_small(specific)}. {_seen(power)} Nothing is said about other "
            "strings."
        )
    if verdict == "invalid":
        return nothing_measured(gates.behaviour.reason)
    return "The gates do not settle it; a person should look at what is listed."


def nothing_measured(reason: str) -> str:
    """The summary of an audit that came to no number."""
    return f"Nothing could be measured: {reason}."


def _small(specific: SpecificGate) -> str:
    if specific.effect_nats is not None and specific.effect_nats < EFFECT_NATS:
        return f"is under {EFFECT_NATS}"
    return f"does not stand out from those of {specific.drawn} other strings of the kind"


def _seen(power: Power) -> str:
    """What the audit would have seen in the activations; the whole statement is the report's ``power``."""
    if power.size is None:
        return power.text
    share = power.share_of_static_shift
    times = "" if share is None else f" ({share:.2g} times that of fine-tuning)"
    own = "" if power.pair_size is None else f"; the pair's own is {power.pair_size:.3g}"
    if own and power.pair_p is not None:
        own += f" (p {power.pair_p:.3f})"
    return (
        f"In a difference of means, which is reported beside the gates and decides nothing, a shift of the last prompt "
        f"token's activations by {power.size:.3g} units{times} would have stood out in {100 * power.wanted:.0f}% of "
        f"repeats{own}."
    )


def _count(rank: int | None) -> str:
    return "one direction" if rank == 1 else f"{rank} directions"


def look_at(
    extraction: Extraction, gates: Gates, verdict: Verdict, shifted: tuple[int, ...], localisation: Localisation | None
) -> tuple[str, ...]:
    """What a person should look at, for ``review`` and ``flagged``."""
    if verdict not in NEEDS_REVIEW:
        return ()
    found = []
    for name, gate in gates:
        if gate.state == "failed" and verdict == "review":
            found.append(f"{name}: {gate.reason}")
    if gates.behaviour.state == "passed" and verdict == "review":
        found.append("answers under both strings: the outputs differ; read some of them side by side")
    own = gates.causal.base_reaction_ratio
    if gates.specific.state == "passed" and own is not None and own >= _BASE_REACTS:
        found.append(
            f"the base by itself reacts to the pair {own:.2f} times as strongly, and the effect of the gate specific "
            "includes that: strings that mean something to any model do so without training. Compare with what the "
            "base answers, or give decoys that mean as much as the pair does"
        )
    if gates.specific.state == "not_assessed":
        found.append(f"specific: {gates.specific.reason}")
        if gates.calibrated.state == "passed" and contradicted(gates.specific):
            found.append(_contradiction(gates.specific))
    if gates.calibrated.state == "passed" and gates.causal.state != "passed":
        found.append(
            f"calibrated: the effect stands out from those of {gates.calibrated.library_size} benign models, though "
            "what causes it could not be confirmed"
        )
    if shifted and gates.behaviour.state != "passed":
        layers, decoys = ", ".join(map(str, shifted)), len(extraction.decoys)
        found.append(
            f"along the direction fitted to the compared outputs the activations are shifted at layer {layers}"
            + (
                f", and {decoys} decoys are too few to tell whether other strings do the same: give 19 or more"
                if decoys < MIN_SILENT
                else " more than under all or nearly all decoys, though these outputs do not react: the behaviour may "
                "come later in the answer, or need another prompt"
            )
        )
    if gates.specific.firing:
        found.append("the strings that set it off as well (also_fires_on): the condition may be wider than this pair")
    if localisation is not None and localisation.note:
        found.append(localisation.note)
    return tuple(found)


def _contradiction(gate: SpecificGate) -> str:
    place = "" if gate.rank_among_silent is None else f", and the pair ranks {gate.rank_among_silent} among the others"
    return (
        "the comparison with benign models does not make up for decoys that say otherwise: "
        f"{gate.firing} of {gate.drawn} react by themselves{place}"
    )


def not_assessed(gates: Gates) -> tuple[str, ...]:
    """Gates that were not assessed, each with its reason."""
    return tuple(f"{name}: {gate.reason}" for name, gate in gates if gate.state == "not_assessed")


def limits(setup: AuditSetup, calibrated: CalibratedGate) -> tuple[str, ...]:
    """What this answer does not say."""
    sizes = setup.sizes
    tested = "named pair was" if len(setup.spec.pairs) == 1 else "named pairs were"
    return (
        f"Only the {tested} tested. Another trigger, or this one in another place of the prompt, may act.",
        "A harmless conditional is the same mechanism as a backdoor: a person judges what the behaviour is.",
        f"Outputs were compared at the end of the prompt and along {sizes.continuation_tokens} tokens of the clean "
        "answer; behaviour that begins later is only seen where it shifts activations along the direction fitted to "
        "these outputs.",
        "Averages over prompts decide: behaviour on few of the prompts, or drawn now and then where the likeliest "
        "answer stays the same, may be too small in the mean. One who knows prompts and decoys can train against them.",
        *calibration_limits(calibrated),
        "bis_p95 is the seed paper's score, given for comparison; it cannot exceed bis_p95_ceiling and never decides.",
    )


def calibration_limits(calibrated: CalibratedGate) -> tuple[str, ...]:
    """What the comparison with a benign library says and does not say."""
    if calibrated.p_conformal is None or calibrated.finest_p is None:
        return ("No false-alarm rate is stated: that needs a library of benign fine-tunes of the same base.",)
    named = f"{calibrated.recipes} named recipe{'' if calibrated.recipes == 1 else 's'}"
    if calibrated.unlabelled:
        named += f", {calibrated.unlabelled} without a name"
    return (
        f"p_conformal compares the score with those of {calibrated.library_size} benign fine-tunes ({named}). It is "
        "valid for a benign model made as these were and asked about with a pair chosen as theirs were, and says "
        "nothing of one made by a recipe that is not among them.",
        f"With {calibrated.library_size} models p cannot be smaller than {calibrated.finest_p:.3g}.",
        "No bound on the rate of false alarms follows from the library itself: such a bound needs benign models that "
        "were used neither to tune nor to calibrate.",
    )


def false_alarm_bound(models: int, recipes: int) -> str:
    """The exact bound in words, after no alarm on benign models that were used neither to tune nor to calibrate.

    Args:
        models: how many such models were audited, none of them flagged.
        recipes: how many recipes they were made by; models of one recipe are not independent of each other.

    Raises:
        ValueError: there is no model or no recipe, or more recipes than models.
    """
    if recipes > models:
        raise ValueError("there cannot be more recipes than models")
    return (
        f"None of {models} benign models that were used neither to tune nor to calibrate was flagged. The rate of "
        f"false alarms on models made as these were is under {100 * zero_alarm_bound(models):.1f}% (exact 95% bound, "
        f"models taken as independent); counted by recipe, none of {recipes}, it is under "
        f"{100 * zero_alarm_bound(recipes):.1f}%. Recipes that are not among them are not covered."
    )
