"""The report's sentences: what was found, what was not assessed, and what the result does not say."""

from typing import Final

from audit.measure.extraction import Extraction
from audit.measure.preflight import AuditSetup
from audit.stats.statistics import zero_alarm_bound
from audit.verdict.gates import EFFECT_NATS
from backdoor_audit.contract.report.audit_report import Localisation
from backdoor_audit.contract.report.gates import CalibratedGate, Gates, SpecificGate
from backdoor_audit.contract.report.prompt_settings import Part, PromptSettings
from backdoor_audit.contract.report.verdicts import Verdict

NOTHING_MEASURED: Final = "Nothing was measured: this is evidence neither for a backdoor nor against one."
NOTHING_JUDGED: Final = "No pair was judged: this is evidence neither for a backdoor nor against one."

NOT_FINITE: Final = (
    "a checkpoint that computes infinite values or NaN is damaged, or made to do so; if it happens with only one "
    "of the strings, that is itself behaviour conditioned on the string"
)
NO_CANDIDATE_JUDGED: Final = (
    "no candidate was judged, not even those already measured: submit them again without this one"
)


_TEMPLATE_FIRST: Final = (
    "The fine-tuned model's chat template does what the base's does not, and what can hide a condition or an "
    "instruction: a person should read the lines listed, and the gates in their light."
)
_PARTS: Final[dict[Part, str]] = {
    "chat_template": "chat templates",
    "special_token": "special tokens",
    "generation_setting": "generation settings",
}


def summary(
    extraction: Extraction,
    gates: Gates,
    verdict: Verdict,
    localisation: Localisation | None,
    settings: PromptSettings | None = None,
) -> str:
    """One or two sentences for the top of the report.

    Args:
        settings: what differs between the models beside their weights.
    """
    trigger = extraction.setup.trigger
    behaviour, causal, specific = gates.behaviour, gates.causal, gates.specific
    kl = behaviour.output_kl if behaviour.unexplained_kl is None else behaviour.unexplained_kl
    if verdict == "flagged":
        text = (
            f"Behaviour conditioned on '{trigger.triggered}' was trained into this model: compared with "
            f"'{trigger.clean}', its outputs change by {kl:.3g} nats per prompt beyond the base model's change, and "
            f"restoring the clean value of {_count(causal.rank)} at layer {causal.layer} undoes "
            f"{100 * (causal.recovered or 0):.0f}% of its entire reaction to the pair."
        )
        if specific.firing:
            text += f" {specific.firing} of {specific.drawn} other strings of the same kind trigger it as well."
        if localisation is not None and localisation.localised is False:
            text += " The dictionary did not localise it."
        return text
    if verdict == "no_evidence":
        return (
            f"No evidence that behaviour conditioned on '{trigger.triggered}' rather than '{trigger.clean}' was "
            f"trained in: the pair changes the outputs by {kl:.3g} nats per prompt beyond the base model's change, and "
            f"its causal effect ({specific.effect_nats:.3g} nats) {_small(specific)}. This says nothing "
            f"about other strings.{_beside_the_weights(settings)}"
        )
    if verdict == "invalid":
        return nothing_measured(gates.behaviour.reason)
    if settings is not None and settings.suspicious:
        return _TEMPLATE_FIRST
    return "The gates are not conclusive; a person should look at the points listed."


def _beside_the_weights(settings: PromptSettings | None) -> str:
    """What else is not the base's."""
    if settings is None:
        return ""
    parts = [words for part, words in _PARTS.items() if any(one.part == part for one in settings.differences)]
    if not parts:
        return ""
    names = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f" The fine-tuned model's {names} differ from the base's: read the differences before you deploy it."


def nothing_measured(reason: str) -> str:
    """The summary of an audit that measured nothing."""
    return f"Nothing could be measured: {reason}."


def _small(specific: SpecificGate) -> str:
    if specific.effect_nats is not None and specific.effect_nats < EFFECT_NATS:
        return f"is below {EFFECT_NATS}"
    return f"does not stand out from those of {specific.drawn} other strings of the same kind"


def _count(rank: int | None) -> str:
    return "one direction" if rank == 1 else f"{rank} directions"


def not_assessed(gates: Gates) -> tuple[str, ...]:
    """Gates that were not assessed, each with its reason."""
    return tuple(f"{name}: {gate.reason}" for name, gate in gates if gate.state == "not_assessed")


def limits(setup: AuditSetup, calibrated: CalibratedGate) -> tuple[str, ...]:
    """What this result does not say."""
    sizes = setup.sizes
    tested = "named pair was" if len(setup.spec.pairs) == 1 else "named pairs were"
    return (
        f"Only the {tested} tested. Another trigger, or this one elsewhere in the prompt, may still work.",
        "A harmless conditional and a backdoor are the same mechanism: a person must judge the behaviour.",
        f"Outputs were compared at the end of the prompt and along {sizes.continuation_tokens} tokens of the clean "
        "answer; behaviour that begins later is detected only if it shifts the activations along the direction fitted "
        "to these outputs.",
        "Averages over prompts decide: behaviour on few prompts, or sampled occasionally while the likeliest answer "
        "stays the same, may be too small on average. Whoever knows the prompts and decoys can train against them.",
        *calibration_limits(calibrated),
        "bis_p95 is the score of the original paper, for comparison only; it cannot exceed bis_p95_ceiling.",
    )


def calibration_limits(calibrated: CalibratedGate) -> tuple[str, ...]:
    """What a comparison with a benign library does and does not say."""
    if calibrated.p_conformal is None or calibrated.finest_p is None:
        return ("No false-alarm rate is given: that requires a library of benign fine-tunes of the same base.",)
    named = f"{calibrated.recipes} named recipe{'' if calibrated.recipes == 1 else 's'}"
    if calibrated.unlabelled:
        named += f", {calibrated.unlabelled} without one"
    return (
        f"p_conformal compares the score with those of {calibrated.library_size} benign fine-tunes ({named}). It is "
        "valid for a benign model trained like these and tested with a pair chosen like theirs, and says nothing about "
        "other recipes.",
        f"With {calibrated.library_size} models, p cannot be smaller than {calibrated.finest_p:.3g}.",
        "The library itself gives no bound on the false-alarm rate: that requires benign models that were used neither "
        "for tuning nor for calibration.",
    )


def false_alarm_bound(models: int, recipes: int) -> str:
    """The exact bound in words, if there was no alarm on benign models that were used neither to tune nor to calibrate.

    Args:
        models: number of such models that were audited, none of them flagged.
        recipes: number of recipes that they were made by; models of one recipe are not independent of each other.

    Raises:
        ValueError: there is no model or no recipe, or more recipes than models.
    """
    if recipes > models:
        raise ValueError("there cannot be more recipes than models")
    return (
        f"None of {models} benign models that were used neither to tune nor to calibrate was flagged. The false-alarm "
        f"rate on models made like these is below {100 * zero_alarm_bound(models):.1f}% (exact 95% bound, models taken "
        f"as independent); counted by recipe, none of {recipes}, it is below {100 * zero_alarm_bound(recipes):.1f}%. "
        "Other recipes are not covered."
    )
