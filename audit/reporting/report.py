"""The report's tables and its provenance, from what the stages found."""

import importlib.metadata
import platform
import resource
from typing import Any

import torch

from audit.errors import OutputsNotFinite
from audit.explain.stage import Explanation
from audit.measure.activations import span_rows
from audit.measure.confirm import Confirmation
from audit.measure.contrast import Directions
from audit.measure.extraction import Extraction
from audit.measure.preflight import AuditSetup
from audit.models.pair import ModelPair
from audit.prompts import carriers as carrier_sets
from audit.reporting import wording
from audit.verdict import gates as gating
from backdoor_audit.contract.report import (
    AlsoFiresOn,
    AuditReport,
    Baselines,
    DecoyRow,
    DirectionRow,
    Provenance,
    Scores,
    Sizes,
)


def tables(
    extraction: Extraction, directions: Directions, confirmation: Confirmation, found: Explanation
) -> dict[str, Any]:
    """The report's tables: scores, directions, dictionaries, features, decoys, sizes."""
    setup, pair_reaction = extraction.setup, extraction.pair_reaction
    decoys = [
        DecoyRow(
            string=decoy.string,
            state="firing" if fires else "silent",
            output_kl=decoy.reaction,
            share_of_effect=decoy.reaction / pair_reaction if extraction.screened else None,
            effect_nats=decoy.effect,
            layer=decoy.layer,
            amplification=decoy.amplification[decoy.layer],
        )
        for decoy, fires in zip(extraction.decoys, extraction.responding, strict=True)
    ]
    causal = confirmation.causal
    tokens = len(span_rows(extraction.base["clean", "a"].layout))
    rows = []
    for layer in setup.layers:
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
                amplification_p=confirmation.amplification_p[layer],
            )
        )
    return {
        "scores": found.scores,
        "also_fires_on": tuple(
            AlsoFiresOn(string=row.string, output_kl=row.output_kl, share_of_effect=row.share_of_effect)
            for row in decoys
            if row.state == "firing"
        ),
        "directions": tuple(rows),
        "layers": found.layers,
        "flagged_features": found.flagged,
        "localisation": found.localisation,
        "baselines": found.baselines,
        "decoys": tuple(decoys),
        "sizes": _sizes(setup, tokens * (3 + len(extraction.decoys))),
    }


def invalid_report(
    setup: AuditSetup,
    error: OutputsNotFinite,
    *,
    audit_id: str,
    warnings: tuple[str, ...],
    seconds: dict[str, float],
    base_digest: str,
    tuned_digest: str,
) -> AuditReport:
    """The report of an audit that had to stop because a model computes infinite values or NaN: no number in it."""
    gates = gating.unmeasured(error.message)
    look_at = [
        "a checkpoint that computes infinite values or NaN is damaged, or made to do so; where it happens under one "
        "string alone, that is itself a condition on the string"
    ]
    limit = wording.NOTHING_MEASURED
    if len(setup.spec.pairs) > 1:
        limit = wording.NOTHING_JUDGED
        look_at.append("no candidate was judged, those that had been measured included: file them without this one")
    return AuditReport(
        audit_id=audit_id,
        verdict=gating.decide(gates, ()),
        summary=wording.nothing_measured(error.message),
        look_at=tuple(look_at),
        not_assessed=wording.not_assessed(gates),
        trigger=error.trigger,
        fail_on=setup.spec.fail_on,
        gates=gates,
        scores=Scores.model_validate(dict.fromkeys(Scores.model_fields)),
        also_fires_on=(), directions=(), layers=(), flagged_features=(), localisation=None,
        baselines=Baselines(output_kl=None, diffmean=None, attribution_direction=None, frozen_random=None),
        decoys=(),
        sizes=_sizes(setup, 0),
        warnings=warnings,
        limits=(limit,),
        provenance=provenance_of(setup, seconds, base_digest, tuned_digest),
    )  # fmt: skip


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


def provenance_of(setup: AuditSetup, seconds: dict[str, float], base_digest: str, tuned_digest: str) -> Provenance:
    """What the answer depends on, and what it took."""
    pair: ModelPair = setup.pair
    names = ("torch", "transformers", "peft", "safetensors", "tokenizers", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names} | {"python": platform.python_version()}
    name = torch.cuda.get_device_name(pair.device) if pair.device.type == "cuda" else f"cpu ({platform.machine()})"
    return Provenance(
        base_digest=base_digest,
        tuned_digest=tuned_digest,
        carriers_digest=carrier_sets.digest((*setup.a, *setup.b)),
        spec_digest=setup.spec.digest(),
        seeds=tuple(setup.spec.seed + seed for seed in range(setup.sizes.seeds)),
        versions=versions,
        device=name,
        dtype=pair.precision,
        timings_s={stage: round(seconds, 3) for stage, seconds in seconds.items()},
        cache_hits=setup.base.hits,
        cache_misses=setup.base.misses,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
