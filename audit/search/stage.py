"""The search stage: from two models and no suspicion to at most five verified strings.

``search`` proposes; the gates of an audit, on carriers that no search has used, judge (``handover``). Every piece of
work is a folder of its own, so that a second attempt continues where the first one stopped.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from audit.clock import part
from audit.models.pair import ModelPair
from audit.models.runner import Runner
from audit.ports import FolderStore, ProgressCallback
from audit.search import lists, logs
from audit.search.contexts import Contexts
from audit.search.grow import grow
from audit.search.handover import Reserved, reserve
from audit.search.measuring import Measuring, SlotBackground
from audit.search.minimise import distinct, minimal, neighbours, reactions_on
from audit.search.ordinary import ordinary
from audit.search.runs import Runs
from audit.search.scan import (
    best_by_rank,
    combined,
    finite,
    halve,
    in_contexts,
    obtain_deep,
    obtain_scored,
    promising,
    scan,
)
from audit.search.sizes import EARLY, LATE, SIZES, TEMPLATES, SearchSizes, contexts_of, layers_at
from audit.search.trials import Scored, Trial, trials
from audit.search.verify import Verifier
from audit.translate import BATCH_TOKENS
from audit.verdict.rules import LIMITS
from backdoor_audit.contract.report.search import (
    FoundString,
    LargestReaction,
    Neighbours,
    SearchedSource,
    SearchResult,
    SearchScores,
)
from backdoor_audit.contract.spec.audit_spec import Render
from backdoor_audit.contract.spec.carriers import Carrier
from backdoor_audit.contract.spec.search import ContextName, SearchSpec

HIT_NATS: Final = 1.0
"""From this reaction of the next token on a string needs no growth."""
WORTH_VERIFYING: Final = 0.1
"""Nats below which a reaction is not looked at any further."""
_RESULT: Final = "result.json"


def search(
    pair: ModelPair,
    spec: SearchSpec,
    carriers: Sequence[Carrier],
    *,
    workspace: FolderStore,
    progress: ProgressCallback = lambda _fraction, _message: None,
    tick: Callable[[int], None] | None = None,
    cache: FolderStore | None = None,
    base_digest: str = "",
    render: Render = "auto",
    seed: int = 0,
    batch_tokens: int = BATCH_TOKENS,
) -> SearchResult:
    """Look for strings that the fine-tuned model reacts to and the base does not.

    Args:
        pair: both models.
        spec: sources, contexts and budget.
        carriers: prompts; a third of their clusters is used here, the rest is for the gates (``handover.reserve``).
        workspace: the audit's own folder; pieces in it that an earlier attempt finished are not computed again.
        progress: receives the completed fraction and what is being done; may raise to stop.
        tick: called after every batch with its number of tokens; may raise to stop.
        cache: runs of bases, shared between audits; used if ``base_digest`` is given.
        render: with the chat template, raw, or by what the tokenizer has.
        batch_tokens: padded tokens per batch.

    Raises:
        InvalidAudit: too few carriers.
    """

    def write(folder: Path) -> None:
        runner = Runner(pair, budget=batch_tokens, tick=tick)
        reserved = reserve(carriers, SIZES[spec.budget], seed)
        attempt = _Search(spec, reserved, runner, workspace, progress, cache, base_digest, render, seed)
        (folder / _RESULT).write_text(attempt.run().model_dump_json(), encoding="utf-8")

    folder = workspace.obtain("search-result", write)
    return SearchResult.model_validate_json((folder / _RESULT).read_bytes())


@dataclass(frozen=True)
class _Search:
    """One attempt."""

    spec: SearchSpec
    reserved: Reserved
    runner: Runner
    store: FolderStore
    progress: ProgressCallback
    cache: FolderStore | None
    base_digest: str
    render: Render
    seed: int

    @property
    def sizes(self) -> SearchSizes:
        return SIZES[self.spec.budget]

    @property
    def contexts(self) -> tuple[ContextName, ...]:
        return contexts_of(self.spec)

    def run(self) -> SearchResult:
        started = time.monotonic()
        pair = self.runner.pair
        rendering = Contexts(pair, self.render)
        runs = Runs(self.runner, self.base_digest, self.cache)
        measuring = Measuring(
            rendering, runs, layers_at(EARLY, pair.n_blocks), layers_at(LATE, pair.n_blocks), self.reserved.scan
        )
        recurring = logs.recurring(self.spec.logs, self.sizes) if "logs" in self.spec.sources else ()
        tried, searched = trials(self.spec, pair.tokenizer, self.sizes, recurring)
        backgrounds = self._backgrounds(measuring, {trial.string for trial in tried})
        scored, parts = self._scanned(tried, measuring, backgrounds)
        grown = self._grown(scored, parts, measuring, backgrounds)
        searched = (*searched, SearchedSource(origin="growth", name="growth", strings=len(grown)))
        every = sorted([*scored, *grown], key=lambda item: (-(item.reaction or 0.0), item.key))
        worth = [item for item in every if self._worth(item, backgrounds)]
        chosen = distinct(worth, self.sizes.verified)
        found = self._found(chosen, measuring, part(self.progress, 0.8, 1.0))
        top = every[0] if every else None
        return SearchResult(
            budget=self.spec.budget,
            found=tuple(sorted(found, key=lambda each: -each.reaction)[: self.spec.candidates]),
            searched=searched,
            contexts=self.contexts,
            carriers=1 + len(self.reserved.more) + len(self.reserved.verifying),
            largest=None
            if top is None
            else LargestReaction(string=top.string, context=top.context, reaction=round(top.reaction or 0.0, 3)),
            background=round(max(each.reaction for each in backgrounds.values()), 3),
            rejected=len(chosen) - len(found),
            tokens=round(runs.tokens),
            seconds=round(time.monotonic() - started, 1),
        )

    def _backgrounds(self, measuring: Measuring, without: set[str]) -> dict[ContextName, SlotBackground]:
        """Ordinary strings in every context."""
        strings = self._ordinary(without, self.sizes.deep_background)
        made: dict[ContextName, SlotBackground] = {}
        for number, context in enumerate(self.contexts):
            self.progress(0.1 * number / len(self.contexts), f"ordinary strings in the context '{context}'")
            made[context] = measuring.background(self.store, context, strings)
        return made

    def _ordinary(self, without: set[str], count: int) -> tuple[str, ...]:
        return ordinary(lists.ordinary_words(self.runner.pair.tokenizer), count, self.seed, without=without)

    def _scanned(
        self, tried: Sequence[Trial], measuring: Measuring, backgrounds: dict[ContextName, SlotBackground]
    ) -> tuple[list[Scored], list[str]]:
        """Scan, deep scan, halving: items with their scores, and the strings that stand out at the early layers."""
        contexts = self.contexts if self.sizes.everywhere else self.contexts[:1]
        usual = self._ordinary({trial.string for trial in tried}, self.sizes.background)
        outliers = {context: measuring.early_background(self.store, context, usual) for context in contexts}
        early = scan(tried, contexts, measuring, outliers, self.store, part(self.progress, 0.1, 0.5))
        chosen = promising(early, self.sizes.deep)
        deep = obtain_deep(
            in_contexts(chosen, self.contexts, early), measuring, backgrounds, self.store, "search-deep",
            part(self.progress, 0.5, 0.65), "strings through all blocks",
        )  # fmt: skip
        halved = halve(
            deep, self.sizes, measuring, self.reserved.more, self.store, part(self.progress, 0.65, 0.7)
        )  # fmt: skip
        return combined(deep, halved), [trial.string for trial in chosen]

    def _grown(
        self,
        scored: Sequence[Scored],
        parts: Sequence[str],
        measuring: Measuring,
        backgrounds: dict[ContextName, SlotBackground],
    ) -> list[Scored]:
        """What growth finds, with reactions on more carriers; nothing where the lists have hit already."""
        if any((item.reaction or 0.0) >= HIT_NATS and self._worth(item, backgrounds) for item in scored):
            return []
        grown = grow(
            scored, parts, self.sizes, measuring, backgrounds, self.store, self.seed, part(self.progress, 0.7, 0.8)
        )  # fmt: skip
        few = best_by_rank(grown, self.sizes.halved // 2)
        more = obtain_scored(
            self.store, "search-grown-halved", lambda: measuring.reactions(few, self.reserved.more)
        )  # fmt: skip
        return combined(few, more)

    def _worth(self, item: Scored, backgrounds: dict[ContextName, SlotBackground]) -> bool:
        """Whether a reaction is larger than any ordinary string's, and not the base's as well."""
        if item.base_ratio is not None and item.base_ratio > LIMITS.react_base:
            return False
        return (item.reaction or 0.0) > max(WORTH_VERIFYING, backgrounds[item.context].reaction)

    def _found(self, chosen: Sequence[Scored], measuring: Measuring, progress: ProgressCallback) -> list[FoundString]:
        """The chosen strings that hold on the verifying carriers, shortened and with their variants."""
        verifier = Verifier(measuring.contexts, measuring.runs, self.reserved.verifying)
        ordinary_reactions: dict[ContextName, float] = {}
        made: list[FoundString] = []
        for number, item in enumerate(chosen):
            progress(number / len(chosen), f"verifying '{item.string[:60]}'")
            if item.context not in ordinary_reactions:
                ordinary_reactions[item.context] = self._ordinary_reaction(verifier, item.context)
            name = f"search-verified-{number:02d}"
            write = partial(
                self._verify,
                item=item,
                verifier=verifier,
                measuring=measuring,
                usual=ordinary_reactions[item.context],
            )
            folder = self.store.obtain(name, write)
            row = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
            if row is not None:
                made.append(FoundString.model_validate(row))
        return _without_repeats(made)

    def _ordinary_reaction(self, verifier: Verifier, context: ContextName) -> float:
        """The largest C of ordinary strings on the verifying carriers; every found string is compared with them."""

        def write(folder: Path) -> None:
            words = lists.ordinary_words(self.runner.pair.tokenizer)
            strings = ordinary(words, self.sizes.decoys, self.seed + 1)
            reactions = [verifier.measure(context, string, answers=False).reaction for string in strings]
            (folder / _RESULT).write_text(json.dumps(max(reactions)), encoding="utf-8")

        folder = self.store.obtain(f"search-ordinary-{context}", write)
        return float(json.loads((folder / _RESULT).read_text(encoding="utf-8")))

    def _verify(
        self,
        folder: Path,
        item: Scored,
        verifier: Verifier,
        measuring: Measuring,
        usual: float,
    ) -> None:
        found = None
        first = verifier.measure(item.context, item.string, answers=False)
        if first.holds(usual):
            measure = reactions_on(measuring, item, (self.reserved.scan, *self.reserved.more)[:2])
            whole = measure([item.string])[0]
            shortest = minimal(item.string, whole, measure)
            around = neighbours(shortest, measure([shortest])[0], measure)
            last = verifier.measure(item.context, shortest)
            elsewhere = [
                other
                for other in self.contexts
                if other == item.context
                or reactions_on(measuring, Scored(item.trial, other), (self.reserved.scan,))([shortest])[0] >= HIT_NATS
            ]
            found = FoundString(
                string=item.string,
                minimal=shortest,
                clean=_clean(shortest, around),
                context=item.context,
                template=TEMPLATES[item.context],
                origin=item.trial.origin,
                list_name=item.trial.list_name,
                scores=SearchScores(
                    early=finite(item.early), late=finite(item.late), log_ratio=finite(item.log_ratio),
                    reaction=finite(item.reaction), base_ratio=finite(item.base_ratio),
                ),
                reaction=round(last.reaction, 3),
                base_ratio=round(last.base_ratio, 4),
                changed=last.changed,
                prompts=len(self.reserved.verifying),
                fires_in=tuple(elsewhere),
                neighbours=around,
                answers=last.answers,
            )  # fmt: skip
        text = "null" if found is None else found.model_dump_json()
        (folder / _RESULT).write_text(text, encoding="utf-8")


def _clean(string: str, around: Sequence[Neighbours]) -> str:
    """The most similar variant that leaves the model silent; a plain word if every variant fires."""
    for each in around:
        for silent in each.silent:
            if silent.strip() and silent != string and each.kind != "parts":
                return silent
    return next((silent for each in around for silent in each.silent if silent.strip()), "something else")


def _without_repeats(found: Iterable[FoundString]) -> list[FoundString]:
    """Of strings with the same shortest form, the one with the largest reaction."""
    best: dict[str, FoundString] = {}
    for each in found:
        if each.minimal not in best or best[each.minimal].reaction < each.reaction:
            best[each.minimal] = each
    return list(best.values())
