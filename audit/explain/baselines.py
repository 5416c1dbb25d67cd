"""Cheap baselines that are reported with every dictionary."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from audit.explain.features import attributions, candidates
from audit.explain.scoring import direction_encoder, feature_table, scores_of
from audit.explain.training import Trained, encoder
from audit.measure.confirm import Confirmation
from audit.measure.contrast import Directions, LastToken
from audit.measure.directions import difference_in_means
from audit.measure.extraction import Extraction, Half
from audit.stats.resampling import clusters_of, sign_flip_test
from backdoor_audit.contract.report.audit_report import Baselines
from backdoor_audit.contract.report.features import Scores
from backdoor_audit.contract.spec.audit_spec import Architecture


def baselines_of(
    extraction: Extraction,
    directions: Directions,
    confirmation: Confirmation,
    untrained: Mapping[Architecture, Trained],
    gradient_b: Float[Tensor, "span d_model"],
) -> Baselines:
    """Score every baseline on B at the chosen layer.

    Args:
        untrained: for each architecture a dictionary of the same shape that was not trained.
        gradient_b: ∂KL(run‖q)/∂h over the span on B's decoy carriers.
    """
    layer = directions.layer
    on_b = extraction.contrast("b")
    halves: tuple[Half, ...] = ("a", "rest") if extraction.has("clean", "rest") else ("a",)
    did_a = torch.cat([extraction.contrast(half).last(layer).did for half in halves])
    few = extraction.contrast("b", decoy_carriers_only=True)
    last, did_b, kl = on_b.last(layer), few.did(layer), confirmation.behaviour.output_kl

    def of_direction(name: str, direction: Float[Tensor, "d_model"]) -> Scores:
        table = feature_table(extraction, layer, direction_encoder(direction))
        first_order = attributions(direction.unsqueeze(0), did_b, gradient_b, len(few.string.layout))
        block = table.activations.triggered - table.activations.clean
        p_value = sign_flip_test([block], clusters_of(extraction.setup.b), seed=extraction.setup.spec.seed)[0]
        return scores_of(
            extraction, table, 0, direction, last,
            name=name, attribution=float(first_order[0]), p_signflip=float(p_value[0]), output_kl=kl,
        )  # fmt: skip

    return Baselines(
        output_kl=kl,
        diffmean=of_direction(f"diffmean/{layer}", difference_in_means(did_a)[:, 0]),
        attribution_direction=of_direction(f"attribution_direction/{layer}", directions.basis[layer][:, 0]),
        frozen_random=_untrained_scores(extraction, directions, untrained, last, kl),
    )


def _untrained_scores(
    extraction: Extraction,
    directions: Directions,
    untrained: Mapping[Architecture, Trained],
    last: LastToken,
    output_kl: float,
) -> Scores:
    trained = untrained[extraction.setup.spec.architectures[0]]
    on_a = extraction.contrast("a")
    first_order = attributions(
        trained.dictionary.W_dec_tuned,
        on_a.did(trained.layer),
        directions.gradient[trained.layer],
        len(on_a.string.layout),
    )
    best = candidates(first_order, 1)[0]
    table = feature_table(extraction, trained.layer, encoder(trained))
    return scores_of(
        extraction, table, best, trained.direction(best), last,
        name=f"frozen_random/{trained.layer}/{best}", attribution=None, p_signflip=None, output_kl=output_kl,
    )  # fmt: skip
