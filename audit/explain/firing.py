"""Where a feature fires: its share of prompts under every condition, and its most active tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from audit.dictionaries.base import TokenBatch
from audit.explain.features import Selection
from audit.explain.text import excerpt, text_of
from audit.explain.training import encoder
from audit.measure.extraction import CONDITIONS, Extraction
from audit.measure.preflight import AuditSetup
from audit.measure.spans import SpanTokens
from audit.prompts.rendering import Tokens
from backdoor_audit.contract.report.feature_report import (
    EXCERPT_CHARS,
    TOKEN_CHARS,
    FiringCondition,
    FiringToken,
    FiringUnder,
    SlotCondition,
)

STRONGEST: Final = 6
_TOKENS_BEFORE, _TOKENS_AFTER = 10, 5
_ROWS = 2048
_ORDER: Final[tuple[FiringCondition, ...]] = ("triggered", "clean", "plain", "silent_decoys", "firing_decoys")


@dataclass(frozen=True)
class PromptFiring:
    """One prompt of B and each feature's most active token.

    Attributes:
        group: the condition that the prompt belongs to.
        string: the string in its slot.
        position: per feature, the token's position; None if the dictionary sees a mean.
        activation: per feature, at that token.
    """

    group: FiringCondition
    condition: SlotCondition
    string: str | None
    carrier: int
    tokens: Tokens
    position: tuple[int | None, ...]
    activation: tuple[float, ...]


def most_active(extraction: Extraction, selection: Selection) -> Iterator[PromptFiring]:
    """Every prompt of B under every condition, with each selected feature's most active token."""
    setup, layer = extraction.setup, selection.trained.layer
    strings = {"triggered": setup.trigger.triggered, "clean": setup.trigger.clean, "plain": None}
    for condition in CONDITIONS:
        prompts = [sequence.prompt() for sequence in extraction.tuned[condition, "b"].layout.sequences]
        span = extraction.span(condition, "b", layer)
        yield from _prompts(extraction, selection, span, prompts, condition, condition, strings[condition])
    carriers = setup.b[: setup.decoys_b]
    for index, (decoy, responds) in enumerate(zip(extraction.decoys, extraction.responding, strict=True)):
        prompts = setup.tokens(carriers, decoy.string)
        span = extraction.decoy_tokens(index).span("b", layer)
        group: FiringCondition = "firing_decoys" if responds else "silent_decoys"
        yield from _prompts(extraction, selection, span, prompts, group, "decoy", decoy.string)


def _prompts(
    extraction: Extraction,
    selection: Selection,
    span: SpanTokens,
    prompts: Sequence[Tokens],
    group: FiringCondition,
    condition: SlotCondition,
    string: str | None,
) -> Iterator[PromptFiring]:
    pooled = extraction.setup.spec.recipe == "paper"
    shown = span.pooled() if pooled else span
    values = _activations(selection, shown)
    counts = torch.bincount(shown.carrier, minlength=len(prompts)).tolist()
    for carrier, (tokens, own) in enumerate(zip(prompts, torch.split(values, counts), strict=True)):
        best = own.max(dim=0)
        # The span is counted from the prompt's end: the base's may be the shorter one.
        begin = len(tokens) - len(own)
        position = tuple(None if pooled else begin + row for row in best.indices.tolist())
        yield PromptFiring(group, condition, string, carrier, tokens, position, tuple(best.values.tolist()))


def _activations(selection: Selection, span: SpanTokens) -> Float[Tensor, "tokens selected"]:
    encode, columns = encoder(selection.trained), list(selection.indices)
    parts = [slice(start, start + _ROWS) for start in range(0, len(span.base), _ROWS)]
    return torch.cat([encode(TokenBatch(span.base[part], span.tuned[part]))[:, columns].float() for part in parts])


@dataclass(frozen=True)
class FeatureFiring:
    """One feature's activations on all prompts, as the report shows them."""

    setup: AuditSetup
    prompts: Sequence[PromptFiring]
    feature: int
    threshold: float

    def by_condition(self) -> tuple[FiringUnder, ...]:
        """One row per condition that has prompts."""
        rows = []
        for group in _ORDER:
            own = [prompt for prompt in self.prompts if prompt.group == group]
            if own:
                firing = sum(self._activation(prompt) > self.threshold for prompt in own)
                best = max(own, key=self._activation)
                token = self._token(best) if self._activation(best) > 0.0 else None
                rows.append(FiringUnder(condition=group, prompts=len(own), share=firing / len(own), strongest=token))
        return tuple(rows)

    def strongest(self) -> tuple[FiringToken, ...]:
        """The prompts with the largest activations, at most one per carrier."""
        by_carrier: dict[int, FiringToken] = {}
        for prompt in sorted(self.prompts, key=self._activation, reverse=True):
            if len(by_carrier) == STRONGEST or self._activation(prompt) <= 0.0:
                break
            if prompt.carrier not in by_carrier:
                by_carrier[prompt.carrier] = self._token(prompt)
        return tuple(by_carrier.values())

    def _activation(self, prompt: PromptFiring) -> float:
        return prompt.activation[self.feature]

    def _token(self, prompt: PromptFiring) -> FiringToken:
        ids, position = prompt.tokens.ids, prompt.position[self.feature]
        at = len(ids) if position is None else position  # a mean over tokens has none: show the prompt's end
        return FiringToken(
            condition=prompt.condition,
            string=None if prompt.string is None else excerpt(prompt.string, EXCERPT_CHARS),
            carrier=prompt.carrier,
            position=position,
            activation=self._activation(prompt),
            fires=self._activation(prompt) > self.threshold,
            token=excerpt(text_of(self.setup, ids[at : at + 1]), TOKEN_CHARS),
            before=excerpt(text_of(self.setup, ids[max(0, at - _TOKENS_BEFORE) : at]), EXCERPT_CHARS, keep_end=True),
            after=excerpt(text_of(self.setup, ids[at + 1 : at + 1 + _TOKENS_AFTER]), EXCERPT_CHARS),
        )
