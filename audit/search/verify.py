"""Verifying a found string on prompts that the search had not used, beside ordinary strings in the same place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from audit.measure.contrast import Contrast
from audit.measure.reaction import reaction
from audit.models.runner import Activations
from audit.prompts.rendering import Tokens
from audit.search.contexts import Contexts
from audit.search.runs import Runs
from audit.verdict.rules import LIMITS, Shown
from backdoor_audit.contract.report.search import FoundAnswer
from backdoor_audit.contract.spec.carriers import Carrier
from backdoor_audit.contract.spec.search import ContextName

TOKENS: Final = 12
"""Tokens of the answer without a string that are forced after every prompt, and of the answers that are shown."""
_SHOWN: Final = 3


@dataclass(frozen=True)
class Verification:
    """One string on the verifying carriers.

    Attributes:
        reaction: C over the last prompt position and the forced tokens, mean over carriers, nats.
        base_ratio: Σ KL(base_s‖base_plain) / Σ KL(ft_s‖ft_plain).
        changed: carriers whose greedy answer begins with other tokens than without the string.
        answers: some of the answers.
    """

    reaction: float
    base_ratio: float
    changed: int = 0
    answers: tuple[FoundAnswer, ...] = ()

    def holds(self, ordinary: float) -> bool:
        """Whether it reacts, and ``LIMITS.margin`` times as strongly as ordinary strings, whose largest C is given."""
        return Shown(self.reaction, self.base_ratio).reacts() and self.reaction >= LIMITS.margin * ordinary


class Verifier:
    """Measures strings on the verifying carriers.

    The fine-tuned model's answer without a string is forced under every string, as in an audit: where a string changes
    the answer after the first token, that is reached along the way.
    """

    def __init__(self, contexts: Contexts, runs: Runs, carriers: Sequence[Carrier]) -> None:
        self._contexts, self._runs, self._carriers = contexts, runs, tuple(carriers)
        self._continuations: dict[ContextName, list[tuple[int, ...]]] = {}
        self._plain: dict[ContextName, tuple[Activations, Activations]] = {}

    def measure(self, context: ContextName, string: str, *, answers: bool = True) -> Verification:
        """C of one string, and what the fine-tuned model says."""
        runner = self._runs.runner
        slots = [self._contexts.slot(context, carrier) for carrier in self._carriers]
        prompts, plain = [slot.tokens([string])[0] for slot in slots], [slot.plain for slot in slots]
        forced = self._continuation(context, plain)
        if context not in self._plain:
            self._plain[context] = self._capture(plain, forced)
        tuned_plain, base_plain = self._plain[context]
        tuned_string, base_string = self._capture(prompts, forced)
        found = reaction(runner, Contrast(tuned_string, tuned_plain, base_string, base_plain))
        change, ratio = found.unexplained_kl or 0.0, found.base_ratio or 0.0
        if not answers:
            return Verification(change, ratio)
        said = runner.greedy(prompts, TOKENS)
        changed = sum(ours != without for ours, without in zip(said, forced, strict=True))
        return Verification(change, ratio, changed, self._shown(said, forced))

    def _continuation(self, context: ContextName, plain: Sequence[Tokens]) -> list[tuple[int, ...]]:
        if context not in self._continuations:
            self._continuations[context] = self._runs.runner.greedy(plain, TOKENS)
        return self._continuations[context]

    def _capture(self, prompts: Sequence[Tokens], texts: Sequence[tuple[int, ...]]) -> tuple[Activations, Activations]:
        """Both models' runs over the prompts with these answers."""
        forced = [prompt.continued(text) for prompt, text in zip(prompts, texts, strict=True)]
        return self._runs.runner.capture(forced, "tuned", ()), self._runs.runner.capture(forced, "base", ())

    def _shown(self, said: Sequence[tuple[int, ...]], plain: Sequence[tuple[int, ...]]) -> tuple[FoundAnswer, ...]:
        decode = self._runs.runner.pair.tokenizer.decode
        return tuple(
            FoundAnswer(text=decode(ours), plain=decode(without))
            for ours, without in list(zip(said, plain, strict=True))[:_SHOWN]
        )
