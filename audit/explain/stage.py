"""The explain stage: which features of the dictionaries carry the behaviour, compared with cheap baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from audit.dictionaries.crosscoder import Crosscoder, latent_scaling
from audit.explain.answers import answers_of_both
from audit.explain.baselines import baselines_of
from audit.explain.descriptions import describe_features
from audit.explain.features import (
    Selection,
    attributions,
    candidates,
    gradient_on,
    median_seed,
    select,
    subspace_overlap,
)
from audit.explain.scoring import FeatureTable, feature_table, scores_of
from audit.explain.training import Trained, encoder, training_source
from audit.measure.confirm import Confirmation
from audit.measure.contrast import Directions, effects
from audit.measure.extraction import Extraction
from audit.ports import ProgressCallback
from audit.stats.resampling import clusters_of, sign_flip_test
from audit.verdict.gates import MIN_RECOVERED
from backdoor_audit.contract.report.answers import Answers
from backdoor_audit.contract.report.audit_report import Baselines, Localisation
from backdoor_audit.contract.report.features import DictionaryRow, Feature, Scores
from backdoor_audit.contract.spec.audit_spec import Architecture

LOCALISED_SHARE: Final = 0.3
"""Share of the directions' recovery that the features must reach for the behaviour to count as localised."""


@dataclass(frozen=True)
class ExplainResult:
    """What the explain stage adds to the report."""

    scores: Scores
    layers: tuple[DictionaryRow, ...]
    flagged: tuple[Feature, ...]
    localisation: Localisation | None
    baselines: Baselines
    answers: tuple[Answers, ...]


@dataclass(frozen=True)
class _Scored:
    trained: Trained
    table: FeatureTable
    best: int
    p_signflip: Float[Tensor, "features"]


def explain(
    extraction: Extraction,
    directions: Directions,
    confirmation: Confirmation,
    trained: Sequence[Trained],
    untrained: Mapping[Architecture, Trained],
    *,
    flag: bool,
    progress: ProgressCallback,
) -> ExplainResult:
    """Score every dictionary on B; with ``flag`` also ask both models, and select the features behind the behaviour.

    Args:
        flag: whether there is anything to explain; if not, no feature is flagged and no answer is recorded.

    Returns:
        Scores and baselines without numbers if no dictionary was trained.
    """
    answers: tuple[Answers, ...] = ()
    if flag:
        progress(0.0, "answers of both models")
        answers = answers_of_both(extraction)
    if not trained:
        kl = confirmation.behaviour.output_kl
        return ExplainResult(no_scores(kl), (), (), None, no_baselines(kl), answers)
    progress(0.2, "scoring the features")
    scored = _score_all(extraction, directions, trained)
    rows = tuple(_dictionary_row(each) for each in scored)
    at_layer = [each for each in scored if each.trained.layer == directions.layer]
    gradient_b = gradient_on(extraction, extraction.contrast("b", decoy_carriers_only=True), directions.layer)
    baselines = baselines_of(extraction, directions, confirmation, untrained, gradient_b)
    flagged: list[Feature] = []
    localisation: Localisation | None = None
    first = extraction.setup.spec.architectures[0]
    scores = _best_scores(extraction, confirmation, next(e for e in at_layer if e.trained.architecture == first))
    if flag:
        for number, architecture in enumerate(extraction.setup.spec.architectures):
            progress(0.3 + 0.7 * number / len(extraction.setup.spec.architectures), f"features of the {architecture}")
            own = [each for each in at_layer if each.trained.architecture == architecture]
            selections = [select(extraction, each.trained, directions, gradient_b) for each in own]
            chosen = median_seed(selections)
            source = own[selections.index(chosen)]
            explanations = describe_features(
                extraction, chosen, selections, trained, untrained[architecture],
                [float(source.table.metrics.threshold.value[index]) for index in chosen.indices],
            )  # fmt: skip
            features = [
                feature.model_copy(update={"explanation": explanation})
                for feature, explanation in zip(_features(extraction, chosen, source), explanations, strict=True)
            ]
            flagged.extend(features)
            if architecture == first:
                localisation = _localisation(selections, _directions_recover(extraction, directions))
                scores = _scores_of_flagged(extraction, confirmation, source, chosen, features)
    return ExplainResult(scores, rows, tuple(flagged), localisation, baselines, answers)


def no_scores(output_kl: float | None) -> Scores:
    """Scores of no feature at all."""
    return Scores.model_validate(dict.fromkeys(Scores.model_fields) | {"output_kl": output_kl})


def no_baselines(output_kl: float | None) -> Baselines:
    """Baselines where there is no dictionary to compare with."""
    return Baselines(output_kl=output_kl, diffmean=None, attribution_direction=None, frozen_random=None)


def _score_all(extraction: Extraction, directions: Directions, trained: Sequence[Trained]) -> list[_Scored]:
    tables = [feature_table(extraction, each.layer, encoder(each)) for each in trained]
    blocks = [table.activations.triggered - table.activations.clean for table in tables]
    p_values = sign_flip_test(blocks, clusters_of(extraction.setup.b), seed=extraction.setup.spec.seed)
    on_a = extraction.contrast("a")
    scored = []
    for each, table, p_value in zip(trained, tables, p_values, strict=True):
        first_order = attributions(
            each.dictionary.W_dec_tuned, on_a.did(each.layer), directions.gradient[each.layer], len(on_a.string.layout)
        )
        scored.append(_Scored(each, table, candidates(first_order, 1)[0], p_value))
    return scored


def _dictionary_row(scored: _Scored) -> DictionaryRow:
    trained, quality, table = scored.trained, scored.trained.quality, scored.table
    return DictionaryRow(
        layer=trained.layer,
        architecture=trained.architecture,
        seed=trained.seed,
        width=trained.dictionary.n_latents,
        k=trained.k,
        fve=quality.fve,
        fve_top1pct=quality.fve_top1pct,
        l0=quality.l0,
        dead_share=quality.dead_share,
        var_ratio=quality.var_ratio,
        best_feature=trained.feature_id(scored.best),
        best_bis=float(table.metrics.firing.bis[scored.best]),
        bis_p95=float(table.bis_p95.max()),
        bis_p95_ceiling=table.bis_p95_ceiling,
    )


def _best_scores(extraction: Extraction, confirmation: Confirmation, scored: _Scored) -> Scores:
    """Scores of the feature with the largest attribution on A, if none is flagged."""
    return scores_of(
        extraction,
        scored.table,
        scored.best,
        scored.trained.direction(scored.best),
        extraction.contrast("b").last(scored.trained.layer),
        name=scored.trained.feature_id(scored.best),
        attribution=None,
        p_signflip=float(scored.p_signflip[scored.best]),
        output_kl=confirmation.behaviour.output_kl,
    )


def _scores_of_flagged(
    extraction: Extraction,
    confirmation: Confirmation,
    scored: _Scored,
    selection: Selection,
    features: Sequence[Feature],
) -> Scores:
    """Scores of the flagged feature that was selected first: the one whose ablation does most on A."""
    index = selection.indices[0]
    return scores_of(
        extraction,
        scored.table,
        index,
        scored.trained.direction(index),
        extraction.contrast("b").last(scored.trained.layer),
        name=features[0].id,
        attribution=float(selection.attribution[index]),
        p_signflip=float(scored.p_signflip[index]),
        output_kl=confirmation.behaviour.output_kl,
    )


def _features(extraction: Extraction, selection: Selection, scored: _Scored) -> list[Feature]:
    trained, table = selection.trained, scored.table
    last = extraction.contrast("b").last(trained.layer)
    norms, scaling = _crosscoder_columns(extraction, trained)
    features = []
    for number, index in enumerate(selection.indices):
        row = table.metrics.at(index)
        sizes = scores_of(
            extraction, table, index, trained.direction(index), last,
            name=None, attribution=None, p_signflip=None, output_kl=None,
        )  # fmt: skip
        features.append(
            Feature(
                id=trained.feature_id(index),
                layer=trained.layer,
                architecture=trained.architecture,
                seed=trained.seed,
                index=index,
                bis=row.bis,
                bis_last=float(table.bis_last[index]),
                precision=row.precision,
                recall=row.recall,
                fpr=row.fpr,
                fpr_interval=row.fpr_interval,
                f1=row.f1,
                firing_threshold=row.threshold,
                firing_quantile=row.quantile,
                auroc=row.auroc,
                d_z=row.d_z,
                p_signflip=float(scored.p_signflip[index]),
                attribution=float(selection.attribution[index]),
                amplification=sizes.amplification,
                amplification_interval=sizes.amplification_interval,
                conditional_share=sizes.conditional_share,
                conditional_share_interval=sizes.conditional_share_interval,
                recovered=selection.alone[number],
                recovered_cumulative=selection.together[number],
                relative_decoder_norm=None if norms is None else float(norms[index]),
                latent_scaling=_finite(scaling, index),
            )
        )
    return features


def _crosscoder_columns(extraction: Extraction, trained: Trained) -> tuple[Tensor | None, Tensor | None]:
    dictionary = trained.dictionary
    if not isinstance(dictionary, Crosscoder):
        return None, None
    source = training_source(extraction, trained.layer)
    rows = torch.arange(0, source.n_tokens, max(1, source.n_tokens // 8192))
    batches = [source.batch(part) for part in torch.split(rows, 2048)]
    return dictionary.relative_decoder_norm, latent_scaling(dictionary, batches).ratio


def _finite(values: Tensor | None, index: int) -> float | None:
    if values is None or not bool(torch.isfinite(values[index])):
        return None
    return float(values[index])


def _directions_recover(extraction: Extraction, directions: Directions) -> float | None:
    """What the pair's subspace recovers on the carriers that the features are measured on."""
    on_b = extraction.contrast("b", decoy_carriers_only=True)
    return effects(extraction.setup.runner, on_b, directions.layer, [directions.basis[directions.layer]]).recovered()


def _localisation(selections: Sequence[Selection], whole: float | None) -> Localisation:
    chosen = median_seed(selections)
    enough = whole is not None and whole >= MIN_RECOVERED
    share = chosen.recovered / whole if enough and whole and chosen.recovered is not None else None
    localised = None if share is None else share >= LOCALISED_SHARE
    note = ""
    if whole is not None and not enough:
        note = f"localisation was not assessed: the directions themselves recover {whole:.2f}, too little to share out"
    if localised is False:
        note = (
            "the dictionary did not localise the behaviour: its features recover "
            f"{chosen.recovered:.2f} where the directions recover {whole:.2f}; the verdict rests on the directions"
        )
    return Localisation(
        features=len(chosen.indices),
        recovered=chosen.recovered,
        directions_recovered=whole,
        share=share,
        localised=localised,
        seeds=tuple(each.trained.seed for each in selections),
        recovered_by_seed=tuple(each.recovered for each in selections),
        subspace_overlap=subspace_overlap(selections),
        note=note,
    )
