"""Explaining flagged features: where they fire, what they write, what they do, and where else they were found."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from audit.dictionaries.base import TokenBatch
from audit.explain.features import Selection
from audit.explain.steering import Run, continuations
from audit.explain.training import Trained, encoder
from audit.measure.ablation import orthonormal
from audit.measure.extraction import CONDITIONS, Extraction
from audit.measure.preflight import AuditSetup
from audit.measure.spans import SpanTokens
from audit.prompts.carriers import cluster_of
from audit.prompts.rendering import Tokens
from backdoor_audit.contract.feature_report import (
    CONTINUATION_CHARS,
    EXCERPT_CHARS,
    TOKEN_CHARS,
    AlikeFeature,
    Continuation,
    FeatureExplanation,
    FiringCondition,
    FiringToken,
    FiringUnder,
    LensToken,
    LogitLens,
    SlotCondition,
)

STRONGEST: Final = 6
LENS_TOKENS: Final = 10
CARRIERS: Final = 3
GENERATED_TOKENS: Final = 24
_TOKENS_BEFORE, _TOKENS_AFTER = 10, 5
_ROWS = 2048
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ORDER: Final[tuple[FiringCondition, ...]] = ("triggered", "clean", "plain", "silent_decoys", "firing_decoys")


def explain_features(
    extraction: Extraction,
    chosen: Selection,
    seeds: Sequence[Selection],
    trained: Sequence[Trained],
    untrained: Trained,
    thresholds: Sequence[float],
) -> list[FeatureExplanation]:
    """Explain the features that one dictionary is reported by.

    Args:
        extraction: activations and decoys.
        chosen: the features, in the order picked.
        seeds: what was picked from every seed of the chosen layer, ``chosen`` among them.
        trained: every dictionary of the audit.
        untrained: an untrained dictionary of the same shape.
        thresholds: firing threshold of each of the features.
    """
    places = list(_most_active(extraction, chosen))
    answers = _continuations(extraction, chosen)
    lenses = logit_lens(extraction.setup, chosen.trained.dictionary.W_dec_tuned[list(chosen.indices)].cpu())
    found = []
    for place, index in enumerate(chosen.indices):
        shown = _Shown(extraction.setup, places, place, thresholds[place])
        found.append(
            FeatureExplanation(
                firing=shown.by_condition(),
                strongest=shown.strongest(),
                logit_lens=lenses[place],
                continuations=answers[place],
                alike=alike(chosen.trained, index, seeds, trained),
                chance_cosine=_closest(chosen.trained.direction(index), untrained)[1],
            )
        )
    return found


@dataclass(frozen=True)
class _Prompt:
    """One prompt of B and each feature's most active token.

    Attributes:
        group: the condition that it counts under.
        string: what fills its slot.
        place: per feature, the token's position (None where the dictionary sees a mean), ``activation`` likewise.
    """

    group: FiringCondition
    condition: SlotCondition
    string: str | None
    carrier: int
    tokens: Tokens
    place: tuple[int | None, ...]
    activation: tuple[float, ...]


def _most_active(extraction: Extraction, picked: Selection) -> Iterator[_Prompt]:
    """Every prompt of B under every condition."""
    setup, layer = extraction.setup, picked.trained.layer
    strings = {"triggered": setup.trigger.triggered, "clean": setup.trigger.clean, "plain": None}
    for condition in CONDITIONS:
        prompts = extraction.base[condition, "b"].layout.sequences
        span = extraction.span(condition, "b", layer)
        yield from _prompts(extraction, picked, span, prompts, condition, condition, strings[condition])
    carriers = setup.b[: setup.decoys_b]
    for index, (decoy, fires) in enumerate(zip(extraction.decoys, extraction.responding, strict=True)):
        prompts = tuple(setup.tokens(carriers, decoy.string))
        span = extraction.decoy_tokens(index).span("b", layer)
        group: FiringCondition = "firing_decoys" if fires else "silent_decoys"
        yield from _prompts(extraction, picked, span, prompts, group, "decoy", decoy.string)


def _prompts(
    extraction: Extraction,
    picked: Selection,
    span: SpanTokens,
    prompts: Sequence[Tokens],
    group: FiringCondition,
    condition: SlotCondition,
    string: str | None,
) -> Iterator[_Prompt]:
    pooled = extraction.setup.spec.recipe == "paper"
    seen = span.pooled() if pooled else span
    values = _activations(picked, seen)
    counts = torch.bincount(seen.carrier, minlength=len(prompts)).tolist()
    for carrier, (tokens, own) in enumerate(zip(prompts, torch.split(values, counts), strict=True)):
        best = own.max(dim=0)
        place = tuple(None if pooled else tokens.span_start + row for row in best.indices.tolist())
        yield _Prompt(group, condition, string, carrier, tokens, place, tuple(best.values.tolist()))


def _activations(picked: Selection, span: SpanTokens) -> Float[Tensor, "tokens picked"]:
    encode, columns = encoder(picked.trained), list(picked.indices)
    parts = [slice(start, start + _ROWS) for start in range(0, len(span.base), _ROWS)]
    return torch.cat([encode(TokenBatch(span.base[part], span.tuned[part]))[:, columns].float() for part in parts])


@dataclass(frozen=True)
class _Shown:
    """What the report shows of one feature's activations."""

    setup: AuditSetup
    prompts: Sequence[_Prompt]
    feature: int
    threshold: float

    def by_condition(self) -> tuple[FiringUnder, ...]:
        """One row a condition that there are prompts of."""
        found = []
        for group in _ORDER:
            own = [prompt for prompt in self.prompts if prompt.group == group]
            if own:
                firing = sum(self._activation(prompt) > self.threshold for prompt in own)
                best = max(own, key=self._activation)
                token = self._token(best) if self._activation(best) > 0.0 else None
                found.append(FiringUnder(condition=group, prompts=len(own), share=firing / len(own), strongest=token))
        return tuple(found)

    def strongest(self) -> tuple[FiringToken, ...]:
        """The prompts with the largest activations, at most one a carrier."""
        found: dict[int, FiringToken] = {}
        for prompt in sorted(self.prompts, key=self._activation, reverse=True):
            if len(found) == STRONGEST or self._activation(prompt) <= 0.0:
                break
            if prompt.carrier not in found:
                found[prompt.carrier] = self._token(prompt)
        return tuple(found.values())

    def _activation(self, prompt: _Prompt) -> float:
        return prompt.activation[self.feature]

    def _token(self, prompt: _Prompt) -> FiringToken:
        ids, place = prompt.tokens.ids, prompt.place[self.feature]
        at = len(ids) if place is None else place  # a mean over tokens has no place: the prompt's end is shown
        return FiringToken(
            condition=prompt.condition,
            string=None if prompt.string is None else excerpt(prompt.string, EXCERPT_CHARS),
            carrier=prompt.carrier,
            position=place,
            activation=self._activation(prompt),
            fires=self._activation(prompt) > self.threshold,
            token=excerpt(_text(self.setup, ids[at : at + 1]), TOKEN_CHARS),
            before=excerpt(_text(self.setup, ids[max(0, at - _TOKENS_BEFORE) : at]), EXCERPT_CHARS, keep_end=True),
            after=excerpt(_text(self.setup, ids[at + 1 : at + 1 + _TOKENS_AFTER]), EXCERPT_CHARS),
        )


def _text(setup: AuditSetup, ids: Sequence[int]) -> str:
    return str(setup.pair.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)) if ids else ""


def excerpt(text: str, limit: int, *, keep_end: bool = False) -> str:
    """At most ``limit`` characters of foreign text, control characters (but not tabs and newlines) replaced.

    Args:
        keep_end: cut at the beginning.
    """
    shown = _CONTROL.sub("\ufffd", text)
    if len(shown) <= limit:
        return shown
    return "…" + shown[len(shown) - limit + 1 :] if keep_end else shown[: limit - 1] + "…"


def logit_lens(setup: AuditSetup, rows: Float[Tensor, "features d_model"]) -> list[LogitLens]:
    """The tokens that each direction promotes and suppresses most, to the fine-tuned model's last norm and head."""
    logits = setup.runner.unembed(rows)
    logits = logits - logits.mean(1, keepdim=True)
    count = min(LENS_TOKENS, logits.shape[1])
    found = []
    for row in logits:
        ends = [row.topk(count).indices.tolist(), row.topk(count, largest=False).indices.tolist()]
        promoted, suppressed = (tuple(_lens_token(setup, index, float(row[index])) for index in end) for end in ends)
        found.append(LogitLens(promoted=promoted, suppressed=suppressed))
    return found


def _lens_token(setup: AuditSetup, index: int, logit: float) -> LensToken:
    return LensToken(token=excerpt(_text(setup, [index]), TOKEN_CHARS), token_id=index, logit=logit)


def _carriers(setup: AuditSetup) -> list[int]:
    """The first carriers of B that are of different clusters."""
    found: dict[str, int] = {}
    for index, carrier in enumerate(setup.b):
        found.setdefault(cluster_of(carrier), index)
    return list(found.values())[:CARRIERS]


def _continuations(extraction: Extraction, picked: Selection) -> list[tuple[Continuation, ...]]:
    """Answers before and after, for each feature alone and for it with those picked before it."""
    setup, rows = extraction.setup, picked.trained.dictionary.W_dec_tuned.cpu()
    carriers = _carriers(setup)
    triggered, clean = (extraction.base[side, "b"].layout.sequences for side in ("triggered", "clean"))
    sets = [[index] for index in picked.indices]
    sets += [list(picked.indices[: place + 1]) for place in range(1, len(picked.indices))]
    bases = [orthonormal(rows[each].T) for each in sets]
    runs = [Run(side[carrier]) for carrier in carriers for side in (triggered, clean)]
    for carrier in carriers:
        for basis in bases:
            runs.append(Run(triggered[carrier], clean[carrier], basis))
            runs.append(Run(clean[carrier], triggered[carrier], basis))
    answers = [
        excerpt(_text(setup, ids), CONTINUATION_CHARS)
        for ids in continuations(setup.runner, picked.trained.layer, runs, GENERATED_TOKENS)
    ]
    intact, changed = answers[: 2 * len(carriers)], answers[2 * len(carriers) :]
    found: list[tuple[Continuation, ...]] = []
    for place in range(len(picked.indices)):
        together = len(picked.indices) + place - 1 if place else None
        shown = []
        for number, carrier in enumerate(carriers):
            own = changed[2 * len(sets) * number :]
            shown.append(
                Continuation(
                    carrier=carrier,
                    prompt=excerpt(_text(setup, triggered[carrier].ids), EXCERPT_CHARS, keep_end=True),
                    triggered=intact[2 * number],
                    triggered_ablated=own[2 * place],
                    triggered_ablated_together=None if together is None else own[2 * together],
                    clean=intact[2 * number + 1],
                    clean_steered=own[2 * place + 1],
                    clean_steered_together=None if together is None else own[2 * together + 1],
                )
            )
        found.append(tuple(shown))
    return found


def alike(own: Trained, index: int, seeds: Sequence[Selection], trained: Sequence[Trained]) -> tuple[AlikeFeature, ...]:
    """The closest feature of every other seed at the layer and of every dictionary at the layers next to it."""
    layers = sorted({each.layer for each in trained})
    place = layers.index(own.layer)
    near = layers[max(0, place - 1) : place + 2]
    picked = {each.trained.seed: each.indices for each in seeds}
    found = []
    for other in trained:
        if other.architecture != own.architecture or other.layer not in near:
            continue
        if (other.layer, other.seed) == (own.layer, own.seed):
            continue
        closest, cosine = _closest(own.direction(index), other)
        found.append(
            AlikeFeature(
                feature=other.feature_id(closest),
                layer=other.layer,
                seed=other.seed,
                cosine=cosine,
                picked=closest in picked[other.seed] if other.layer == own.layer and other.seed in picked else None,
            )
        )
    return tuple(found)


def _closest(row: Float[Tensor, "d_model"], other: Trained) -> tuple[int, float]:
    """The latent whose decoder row has the largest cosine in size with a unit row, and that cosine."""
    cosines = other.dictionary.W_dec_tuned.float().cpu() @ row
    index = int(cosines.abs().argmax())
    return index, max(-1.0, min(1.0, float(cosines[index])))
