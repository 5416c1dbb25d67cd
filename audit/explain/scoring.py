"""How features and directions fire on prompts: the published per-feature metrics, on split B.

A prompt's activation is the maximum over its positions from the string on, without the forced continuation. A feature
is anything that turns activations of both models at one position into one number.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audit.dictionaries.base import TokenBatch
from audit.measure.contrast import LastToken
from audit.measure.extraction import Condition, Extraction, Half
from audit.measure.spans import SpanTokens
from audit.stats.bis_p95 import bis_p95
from audit.stats.metrics import FeatureMetrics, amplification, bis_interval, conditional_share, feature_metrics
from audit.stats.metrics import firing_threshold as threshold_on
from audit.stats.resampling import clusters_of
from backdoor_audit.contract.report.features import Scores

Encode = Callable[[TokenBatch], Float[Tensor, "tokens features"]]
_ROWS = 2048


@dataclass(frozen=True)
class PromptActivations:
    """Activations of all features of one dictionary, ``[prompts, features]`` each.

    Attributes:
        clean_a: half A under the clean string; sets thresholds.
        triggered, clean, plain: half B.
        decoys: half B's decoy carriers under every silent decoy; None without decoys.
        triggered_last, clean_last: half B, last prompt token only.
        clean_a_last: half A, likewise.
    """

    clean_a: Float[Tensor, "prompts features"]
    triggered: Float[Tensor, "prompts features"]
    clean: Float[Tensor, "prompts features"]
    plain: Float[Tensor, "prompts features"]
    decoys: Float[Tensor, "prompts features"] | None
    triggered_last: Float[Tensor, "prompts features"]
    clean_last: Float[Tensor, "prompts features"]
    clean_a_last: Float[Tensor, "prompts features"]


@dataclass(frozen=True)
class FeatureTable:
    """Every metric of every feature of one dictionary."""

    activations: PromptActivations
    metrics: FeatureMetrics
    bis_last: Float[Tensor, "features"]
    bis_p95: Float[Tensor, "features"]
    bis_p95_ceiling: float


def feature_table(extraction: Extraction, layer: int, encode: Encode) -> FeatureTable:
    """Score every feature that ``encode`` returns at one layer."""
    setup = extraction.setup
    triggered, triggered_last = _prompts(extraction, "triggered", "b", layer, encode)
    clean, clean_last = _prompts(extraction, "clean", "b", layer, encode)
    plain, _ = _prompts(extraction, "plain", "b", layer, encode)
    halves: tuple[Half, ...] = ("a", "rest") if extraction.has("clean", "rest") else ("a",)
    of_a = [_prompts(extraction, "clean", half, layer, encode) for half in halves]
    clean_a, clean_a_last = (torch.cat(parts) for parts in zip(*of_a, strict=True))
    decoys, decoy_clusters = _decoys(extraction, layer, encode)
    rows = PromptActivations(clean_a, triggered, clean, plain, decoys, triggered_last, clean_last, clean_a_last)
    metrics = feature_metrics(triggered, clean, threshold_on(clean_a))
    last = feature_metrics(triggered_last, clean_last, threshold_on(clean_a_last))
    clusters = clusters_of(setup.b)
    paper = bis_p95(
        triggered,
        torch.cat([clean, plain]),
        decoys,
        benign_clusters=torch.cat([clusters, clusters]),
        decoy_clusters=decoy_clusters,
        seed=setup.spec.seed,
    )
    return FeatureTable(rows, metrics, last.firing.bis, paper.score, paper.ceiling)


def _prompts(
    extraction: Extraction, condition: Condition, half: Half, layer: int, encode: Encode
) -> tuple[Float[Tensor, "prompts features"], Float[Tensor, "prompts features"]]:
    """Activations over the span and at the last prompt token."""
    prompts = len(extraction.base[condition, half].layout)
    return _encode_rows(_shown(extraction, extraction.span(condition, half, layer)), prompts, encode)


def _shown(extraction: Extraction, span: SpanTokens) -> SpanTokens:
    """The rows that a dictionary of this audit's recipe sees."""
    return span.pooled() if extraction.setup.spec.recipe == "paper" else span


def _encode_rows(
    span: SpanTokens, prompts: int, encode: Encode
) -> tuple[Float[Tensor, "prompts features"], Float[Tensor, "prompts features"]]:
    most: Tensor | None = None
    last: Tensor | None = None
    carriers = span.carrier
    is_last = torch.ones(len(carriers), dtype=torch.bool)
    is_last[:-1] = carriers[1:] != carriers[:-1]
    for start in range(0, len(carriers), _ROWS):
        part = slice(start, start + _ROWS)
        values = encode(TokenBatch(span.base[part], span.tuned[part])).float()
        if most is None or last is None:
            most = torch.full((prompts, values.shape[1]), -torch.inf)
            last = torch.zeros(prompts, values.shape[1])
        index = carriers[part]
        most.scatter_reduce_(0, index.unsqueeze(1).expand_as(values), values, "amax")
        ends = is_last[part]
        last[index[ends]] = values[ends]
    assert most is not None
    assert last is not None
    return most, last


def _decoys(extraction: Extraction, layer: int, encode: Encode) -> tuple[Tensor | None, Tensor | None]:
    silent = [index for index, responds in enumerate(extraction.responding) if not responds]
    if not silent:
        return None, None
    setup = extraction.setup
    activations = []
    for index in silent:
        span = _shown(extraction, extraction.decoy_tokens(index).span("b", layer))
        activations.append(_encode_rows(span, setup.decoys_b, encode)[0])
    clusters = clusters_of(setup.b)[: setup.decoys_b]
    return torch.cat(activations), clusters.repeat(len(silent))


def direction_encoder(direction: Float[Tensor, "d_model"]) -> Encode:
    """A direction as a feature: the projection of Δ on it, which may be negative."""
    return lambda batch: (batch.delta @ direction.to(batch.tuned.device)).unsqueeze(1)


def scores_of(
    extraction: Extraction,
    table: FeatureTable,
    index: int,
    direction: Float[Tensor, "d_model"],
    last: LastToken,
    *,
    name: str | None,
    attribution: float | None,
    p_signflip: float | None,
    output_kl: float | None,
) -> Scores:
    """The published scores of one feature."""
    row, rows = table.metrics.at(index), table.activations
    clusters = clusters_of(extraction.setup.b)
    threshold = table.metrics.threshold.value[index]
    fires = [rows.triggered[:, index] > threshold, rows.clean[:, index] > threshold]
    projections = last.did @ direction
    amplified = amplification(projections, last.base_reading, clusters)
    share = conditional_share(projections, last.static_shift, clusters)
    return Scores(
        feature=name,
        bis=row.bis,
        bis_interval=bis_interval(fires[0], fires[1], clusters),
        precision=row.precision,
        recall=row.recall,
        fpr=row.fpr,
        fpr_interval=row.fpr_interval,
        f1=row.f1,
        auroc=row.auroc,
        d_z=row.d_z,
        p_signflip=p_signflip,
        amplification=amplified.value,
        amplification_interval=amplified.interval,
        conditional_share=share.value,
        conditional_share_interval=share.interval,
        attribution=attribution,
        output_kl=output_kl,
        bis_p95=float(table.bis_p95[index]),
        bis_p95_ceiling=table.bis_p95_ceiling,
    )
