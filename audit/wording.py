"""The report's sentences: what was found, what was not looked at, and what the answer does not say."""

from audit.extraction import Extraction
from audit.gates import EFFECT_NATS
from audit.report import Gates, Localisation, Power, SpecificGate
from audit.spec import Verdict


def summary(
    extraction: Extraction, gates: Gates, verdict: Verdict, localisation: Localisation | None, power: Power
) -> str:
    """One or two sentences for the top of the report."""
    trigger = extraction.study.spec.trigger
    kl, causal, specific = gates.behaviour.output_kl, gates.causal, gates.specific
    if verdict == "flagged":
        text = (
            f"Behaviour conditioned on '{trigger.triggered}' was trained into this model: against "
            f"'{trigger.clean}' its outputs change by {kl:.3g} nats a prompt beyond what the base does, and putting "
            f"{_count(causal.rank)} at layer {causal.layer} back to the clean value undoes "
            f"{100 * (causal.recovered or 0):.0f}% of it."
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
        return "The audit's own checks failed; nothing was measured."
    return "The gates disagree; a person should look at what is listed."


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
    return (
        f"A shift of the last prompt token's activations by {power.size:.3g} units{times} would have stood out in "
        f"{100 * power.wanted:.0f}% of repeats."
    )


def _count(rank: int | None) -> str:
    return "one direction" if rank == 1 else f"{rank} directions"


def look_at(
    extraction: Extraction, gates: Gates, verdict: Verdict, shifted: tuple[int, ...], localisation: Localisation | None
) -> tuple[str, ...]:
    """What a person should look at, for ``review`` and ``flagged``."""
    if verdict not in ("review", "flagged"):
        return ()
    found = []
    for name, gate in gates:
        if gate.state == "failed" and verdict == "review":
            found.append(f"{name}: {gate.reason}")
    if gates.behaviour.state == "passed" and verdict == "review":
        found.append("answers under both strings: the outputs differ; read some of them side by side")
    if gates.specific.state == "not_assessed":
        found.append(f"specific: {gates.specific.reason}")
    if shifted and gates.behaviour.state != "passed":
        layers = ", ".join(map(str, shifted))
        found.append(
            f"the activations are shifted by the pair at layer {layers} beyond every decoy, though the compared "
            "outputs do not react: the behaviour may come later in the answer, or need another prompt"
        )
    if gates.specific.firing:
        found.append("the strings that set it off as well (also_fires_on): the condition may be wider than this pair")
    if localisation is not None and localisation.note:
        found.append(localisation.note)
    return tuple(found)


def not_assessed(gates: Gates) -> tuple[str, ...]:
    """Gates that were not assessed, each with its reason."""
    return tuple(f"{name}: {gate.reason}" for name, gate in gates if gate.state == "not_assessed")


def limits(extraction: Extraction) -> tuple[str, ...]:
    """What this answer does not say."""
    sizes = extraction.study.sizes
    return (
        "Only the named pair was tested. Another trigger, or this one in another place of the prompt, may act.",
        "A harmless conditional is the same mechanism as a backdoor: a person judges what the behaviour is.",
        f"Outputs were compared at the end of the prompt and along {sizes.continuation_tokens} tokens of the clean "
        "answer; behaviour that begins later is only seen where it shifts activations.",
        "No false-alarm rate is stated: that needs a library of benign fine-tunes of the same base.",
        "bis_p95 is the seed paper's score, given for comparison; it cannot exceed bis_p95_ceiling and never decides.",
    )
