"""Builds the report: the results of the stages as the contract's tables, sentences and provenance."""

import importlib.metadata
import platform
import resource
from dataclasses import dataclass
from typing import Any

import torch

from audit.errors import OutputsNotFinite
from audit.explain.behaviour import conditional_behaviour
from audit.explain.stage import ExplainResult, no_baselines, no_scores
from audit.measure.activations import span_rows
from audit.measure.confirm import Confirmation
from audit.measure.extraction import Extraction
from audit.measure.preflight import AuditSetup
from audit.ports import AuditInputs
from audit.prompts import carriers as carrier_sets
from audit.reporting import wording
from audit.reporting.reasons import reason, reasons
from audit.verdict import gates as gating
from audit.verdict.decoys import reacts
from audit.verdict.multiple_pairs import PanelResult
from backdoor_audit.contract.report.audit_report import (
    AlsoFiresOn,
    AuditReport,
    DecoyRow,
    DirectionRow,
    Provenance,
    Sizes,
)
from backdoor_audit.contract.report.gates import Gates
from backdoor_audit.contract.report.guide import next_steps
from backdoor_audit.contract.report.verdicts import Verdict


@dataclass(frozen=True)
class Results:
    """The results of the stages of one audit.

    Attributes:
        panel: all candidates; None if a single pair was tested.
    """

    extraction: Extraction
    confirmation: Confirmation
    explanation: ExplainResult
    gates: Gates
    verdict: Verdict
    panel: PanelResult | None


def audit_report(
    results: Results, inputs: AuditInputs, warnings: tuple[str, ...], seconds: dict[str, float]
) -> AuditReport:
    """The report of an audit that was carried out.

    Args:
        seconds: spent so far, by stage.
    """
    extraction, gates, verdict, panel = results.extraction, results.gates, results.verdict, results.panel
    setup, localisation = extraction.setup, results.explanation.localisation
    summary = wording.summary(extraction, gates, verdict, localisation, setup.prompt_settings)
    found = reasons(extraction, gates, verdict, localisation, setup.prompt_settings)
    if panel is not None:
        found += tuple(reason("another_candidate", line) for line in panel.others)
    report = AuditReport(
        audit_id=inputs.audit_id,
        verdict=verdict,
        summary=summary if panel is None else f"{panel.headline} {summary}",
        look_at=tuple(each.text for each in found),
        reasons=found,
        not_assessed=wording.not_assessed(gates),
        smallest_effect_nats=gating.smallest_effect(extraction, results.confirmation, len(setup.spec.pairs)),
        trigger=setup.trigger.model_dump(),
        candidates=() if panel is None else panel.rows,
        multiplicity=None if panel is None else panel.multiplicity,
        fail_on=setup.spec.fail_on,
        gates=gates,
        prompt_settings=setup.prompt_settings,
        warnings=warnings,
        limits=wording.limits(setup, gates.calibrated),
        provenance=_provenance(setup, inputs, seconds),
        **_tables(results),
    )
    return _with_next_steps(report)


def invalid_report(
    setup: AuditSetup,
    error: OutputsNotFinite,
    inputs: AuditInputs,
    warnings: tuple[str, ...],
    seconds: dict[str, float],
) -> AuditReport:
    """The report of an audit that had to stop because a model computes infinite values or NaN; it contains no
    numbers.
    """
    gates = gating.unmeasured(error.message)
    look_at = [wording.NOT_FINITE]
    limit = wording.NOTHING_MEASURED
    if len(setup.spec.pairs) > 1:
        limit = wording.NOTHING_JUDGED
        look_at.append(wording.NO_CANDIDATE_JUDGED)
    report = AuditReport(
        audit_id=inputs.audit_id,
        verdict=gating.decide(gates),
        summary=wording.nothing_measured(error.message),
        look_at=tuple(look_at),
        reasons=tuple(reason("not_finite", line) for line in look_at),
        not_assessed=wording.not_assessed(gates),
        trigger=error.trigger,
        fail_on=setup.spec.fail_on,
        gates=gates,
        prompt_settings=setup.prompt_settings,
        scores=no_scores(None),
        also_fires_on=(), directions=(), layers=(), flagged_features=(), localisation=None,
        baselines=no_baselines(None),
        decoys=(),
        sizes=_sizes(setup, 0),
        warnings=warnings,
        limits=(limit,),
        provenance=_provenance(setup, inputs, seconds),
    )  # fmt: skip
    return _with_next_steps(report)


def _with_next_steps(report: AuditReport) -> AuditReport:
    return report.model_copy(update={"next_steps": next_steps(report)})


def _tables(results: Results) -> dict[str, Any]:
    """Scores, directions, dictionaries, features, decoys, sizes."""
    extraction, explanation = results.extraction, results.explanation
    decoys = _decoy_rows(extraction)
    trained = len(span_rows(extraction.base["clean", "a"].layout)) * (3 + len(extraction.decoys))
    return {
        "scores": explanation.scores,
        "also_fires_on": tuple(
            AlsoFiresOn(string=row.string, output_kl=row.output_kl, share_of_effect=row.share_of_effect)
            for row in decoys
            if row.state == "firing"
        ),
        "directions": _direction_rows(results),
        "layers": explanation.layers,
        "flagged_features": explanation.flagged,
        "localisation": explanation.localisation,
        "behaviour": conditional_behaviour(explanation.answers),
        "answers": explanation.answers,
        "baselines": explanation.baselines,
        "decoys": decoys,
        "sizes": _sizes(extraction.setup, trained if extraction.explains else 0),
    }


def _decoy_rows(extraction: Extraction) -> tuple[DecoyRow, ...]:
    return tuple(
        DecoyRow(
            string=decoy.string,
            state="firing" if responds else "silent",
            reacts=reacts(decoy.unexplained, decoy.base_ratio),
            output_kl=decoy.reaction,
            unexplained_kl=decoy.unexplained,
            base_reaction_ratio=decoy.base_ratio,
            share_of_effect=(decoy.unexplained or 0.0) / extraction.pair_reaction if extraction.screened else None,
            effect_nats=decoy.effect,
            effect_is_bound=decoy.measured_effect is None,
            layer=decoy.layer,
        )
        for decoy, responds in zip(extraction.decoys, extraction.responding, strict=True)
    )


def _direction_rows(results: Results) -> tuple[DirectionRow, ...]:
    directions, confirmation, causal = results.extraction.directions, results.confirmation, results.confirmation.causal
    rows = []
    for layer in results.extraction.setup.layers:
        amplified, share = confirmation.amplification[layer], confirmation.conditional_share[layer]
        chosen = layer == directions.layer
        rows.append(
            DirectionRow(
                layer=layer,
                chosen=chosen,
                effect_nats_a=directions.effect_a[layer],
                effect_nats=confirmation.effect if chosen else None,
                recovered=causal.recovered_rank1 if chosen and causal is not None else None,
                amplification=amplified.value,
                amplification_interval=amplified.interval,
                conditional_share=share.value,
                conditional_share_interval=share.interval,
            )
        )
    return tuple(rows)


def _sizes(setup: AuditSetup, training_tokens: int) -> Sizes:
    return Sizes(
        carriers_a=len(setup.a),
        carriers_b=len(setup.b),
        clusters_a=len({carrier_sets.cluster_of(carrier) for carrier in setup.a}),
        clusters_b=len({carrier_sets.cluster_of(carrier) for carrier in setup.b}),
        decoy_carriers_a=setup.decoys_a,
        decoy_carriers_b=setup.decoys_b,
        training_tokens=training_tokens,
        layers=setup.layers,
        rendering=setup.rendering,
        preset=setup.spec.preset,
        recipe=setup.spec.recipe,
        continuation_tokens=setup.sizes.continuation_tokens,
    )


def _provenance(setup: AuditSetup, inputs: AuditInputs, seconds: dict[str, float]) -> Provenance:
    """What the result depends on, and the time and memory it took."""
    pair = setup.pair
    names = ("torch", "transformers", "peft", "safetensors", "tokenizers", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names} | {"python": platform.python_version()}
    name = torch.cuda.get_device_name(pair.device) if pair.device.type == "cuda" else f"cpu ({platform.machine()})"
    return Provenance(
        base_digest=inputs.base_digest,
        tuned_digest=inputs.tuned_digest,
        base_files=inputs.base_files,
        tuned_files=inputs.tuned_files,
        carriers_digest=carrier_sets.digest((*setup.a, *setup.b)),
        spec_digest=setup.spec.digest(),
        base_template_digest=pair.settings_of("base").template_digest,
        tuned_template_digest=pair.settings_of("tuned").template_digest,
        seeds=tuple(setup.spec.seed + seed for seed in range(setup.sizes.seeds)),
        versions=versions,
        device=name,
        dtype=pair.precision,
        timings_s={stage: round(seconds, 3) for stage, seconds in seconds.items()},
        cache_hits=setup.base.hits,
        cache_misses=setup.base.misses,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
