"""What the report says about each flagged feature: where it fires, which tokens it promotes, what it changes, and
similar features elsewhere.
"""

from collections.abc import Sequence
from typing import Final

from jaxtyping import Float
from torch import Tensor

from audit.explain.answers import answers_before_and_after
from audit.explain.features import Selection
from audit.explain.firing import FeatureFiring, most_active
from audit.explain.text import excerpt, text_of
from audit.explain.training import Trained
from audit.measure.extraction import Extraction
from audit.measure.preflight import AuditSetup
from backdoor_audit.contract.report.feature_report import (
    TOKEN_CHARS,
    AlikeFeature,
    FeatureExplanation,
    LensToken,
    LogitLens,
)

LENS_TOKENS: Final = 10


def describe_features(
    extraction: Extraction,
    chosen: Selection,
    seeds: Sequence[Selection],
    trained: Sequence[Trained],
    untrained: Trained,
    thresholds: Sequence[float],
) -> list[FeatureExplanation]:
    """Describe the features that one dictionary is reported by.

    Args:
        extraction: activations and decoys.
        chosen: the features, in order of selection.
        seeds: the selection of every seed at the chosen layer, ``chosen`` among them.
        trained: every dictionary of the audit.
        untrained: an untrained dictionary of the same shape.
        thresholds: firing threshold of each of the features.
    """
    prompts = list(most_active(extraction, chosen))
    answers = answers_before_and_after(extraction, chosen)
    lenses = logit_lens(extraction.setup, chosen.trained.dictionary.W_dec_tuned[list(chosen.indices)].cpu())
    explanations = []
    for number, index in enumerate(chosen.indices):
        firing = FeatureFiring(extraction.setup, prompts, number, thresholds[number])
        explanations.append(
            FeatureExplanation(
                firing=firing.by_condition(),
                strongest=firing.strongest(),
                logit_lens=lenses[number],
                continuations=answers[number],
                alike=alike(chosen.trained, index, seeds, trained),
                chance_cosine=_closest(chosen.trained.direction(index), untrained)[1],
            )
        )
    return explanations


def logit_lens(setup: AuditSetup, rows: Float[Tensor, "features d_model"]) -> list[LogitLens]:
    """The tokens that each direction promotes and suppresses most, by the fine-tuned model's last norm and head."""
    logits = setup.runner.unembed(rows)
    logits = logits - logits.mean(1, keepdim=True)
    count = min(LENS_TOKENS, logits.shape[1])
    lenses = []
    for row in logits:
        ends = [row.topk(count).indices.tolist(), row.topk(count, largest=False).indices.tolist()]
        promoted, suppressed = (tuple(_lens_token(setup, index, float(row[index])) for index in end) for end in ends)
        lenses.append(LogitLens(promoted=promoted, suppressed=suppressed))
    return lenses


def _lens_token(setup: AuditSetup, index: int, logit: float) -> LensToken:
    return LensToken(token=excerpt(text_of(setup, [index]), TOKEN_CHARS), token_id=index, logit=logit)


def alike(own: Trained, index: int, seeds: Sequence[Selection], trained: Sequence[Trained]) -> tuple[AlikeFeature, ...]:
    """The closest feature of every other seed at the layer and of every dictionary at the layers next to it."""
    layers = sorted({each.layer for each in trained})
    middle = layers.index(own.layer)
    near = layers[max(0, middle - 1) : middle + 2]
    selected = {each.trained.seed: each.indices for each in seeds}
    rows = []
    for other in trained:
        if other.architecture != own.architecture or other.layer not in near:
            continue
        if (other.layer, other.seed) == (own.layer, own.seed):
            continue
        closest, cosine = _closest(own.direction(index), other)
        rows.append(
            AlikeFeature(
                feature=other.feature_id(closest),
                layer=other.layer,
                seed=other.seed,
                cosine=cosine,
                picked=closest in selected[other.seed] if other.layer == own.layer and other.seed in selected else None,
            )
        )
    return tuple(rows)


def _closest(row: Float[Tensor, "d_model"], other: Trained) -> tuple[int, float]:
    """The latent whose decoder row has the largest absolute cosine with a unit row, and that cosine."""
    cosines = other.dictionary.W_dec_tuned.float().cpu() @ row
    index = int(cosines.abs().argmax())
    return index, max(-1.0, min(1.0, float(cosines[index])))
