"""Scan by halving: many strings at the early layers on one carrier, fewer through all blocks, few on more carriers."""

import json
import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from audit.ports import FolderStore, ProgressCallback
from audit.search.measuring import Measuring, Outliers, SlotBackground
from audit.search.sizes import SearchSizes
from audit.search.trials import Scored, Trial
from backdoor_audit.contract.spec.carriers import Carrier
from backdoor_audit.contract.spec.search import ContextName

PIECE: Final = 1_024
"""Strings whose scores are kept together: what a second attempt does not compute again."""
_TELLING: Final = 12
"""Strings of one form from which on one is compared with the median of all."""
_SMALLEST: Final = 0.05
_FILE: Final = "scores.json"
_SCORED: Final = TypeAdapter(list[Scored])


def scan(
    trials: Sequence[Trial],
    contexts: Sequence[ContextName],
    measuring: Measuring,
    backgrounds: dict[ContextName, Outliers],
    store: FolderStore,
    progress: ProgressCallback,
) -> list[Scored]:
    """Every string in every context, with its early score."""
    scored = []
    ordered = sorted(trials, key=lambda trial: (len(trial.string), trial.string))
    total, done = len(trials) * len(contexts), 0
    for context in contexts:
        for number, start in enumerate(range(0, len(ordered), PIECE)):
            part = ordered[start : start + PIECE]
            progress(done / total, f"scan in the context '{context}': {done:,} of {total:,} strings")
            scores = _piece(part, context, measuring, backgrounds[context], store, number)
            scored += [
                Scored(trial, context, early=score) for trial, score in zip(part, scores, strict=True)
            ]  # fmt: skip
            done += len(part)
    return scored


def _piece(
    part: Sequence[Trial],
    context: ContextName,
    measuring: Measuring,
    background: Outliers,
    store: FolderStore,
    number: int,
) -> list[float]:
    def write(folder: Path) -> None:
        scores = measuring.early_scores(context, [trial.string for trial in part], background)
        (folder / _FILE).write_text(json.dumps(scores), encoding="utf-8")

    folder = store.obtain(f"search-scan-{context}-{number:03d}", write)
    found: list[float] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    return found


def promising(scored: Sequence[Scored], count: int) -> list[Trial]:
    """The strings to look at more closely, about ``count``, and every published trigger.

    A third are those that stand out furthest from strings of their own form: a form as such (a label and a number, a
    word in brackets) moves every fine-tune. A third are these with the next numbers: what training contrasted with the
    trigger stands out further than the trigger itself. A third are the first of every form in turn.
    """
    groups: dict[tuple[str, str, str], list[Scored]] = {}
    for item in scored:
        groups.setdefault((item.context, item.trial.list_name, form(item.string)), []).append(item)
    every = sorted(
        ((_above_group(item, group), item) for group in groups.values() for item in group),
        key=lambda pair: (-pair[0], pair[1].key),
    )
    third = max(1, count // 3)
    outliers = list({item.string: item.trial for _, item in every}.values())[:third]
    chosen = {trial.string: trial for trial in (*outliers, *_next_numbers(outliers, third))}
    ranked = [sorted(group, key=lambda item: (-(item.early or 0.0), item.key)) for group in groups.values()]
    for turn in range(max(map(len, ranked), default=0)):
        for group in ranked:
            if turn < len(group) and len(chosen) < count:
                chosen.setdefault(group[turn].string, group[turn].trial)
    published = {item.string: item.trial for _, item in every if item.trial.origin == "published"}
    return list((published | chosen).values())


def _next_numbers(trials: Sequence[Trial], count: int) -> list[Trial]:
    """The same strings with the numbers before and after theirs; of each string one step, then of each the next."""
    made: dict[str, Trial] = {}
    for step in (1, -1, 2, -2, 10, -10):
        for trial in trials:
            numbers = re.findall(r"\d+", trial.string)
            if numbers and len(made) < count:
                longest = max(numbers, key=len)
                other = trial.string.replace(longest, str(max(0, int(longest) + step)).zfill(len(longest)), 1)
                made.setdefault(other, replace(trial, string=other))
    return list(made.values())


def form(string: str) -> str:
    """What strings of one form have in common: with digits, all but these; else the signs around the words.

    Signs outside ASCII (emoji, invisible ones) are all alike.
    """
    if re.search(r"\d", string):
        return re.sub(r"\d", "0", string)
    return re.sub(r"[^\x00-\x7f]+", "e", re.sub(r"\w+", "a", string))


def _above_group(item: Scored, group: Sequence[Scored]) -> float:
    """The early score as a multiple of its group's median, where the group is large enough to tell."""
    score = item.early or 0.0
    if len(group) < _TELLING:
        return score
    return score / max(statistics.median(each.early or 0.0 for each in group), _SMALLEST)


def in_contexts(trials: Sequence[Trial], contexts: Sequence[ContextName], early: Sequence[Scored]) -> list[Scored]:
    """Every string in every context, with its early score where it was scanned there."""
    known = {item.key: item.early for item in early}
    return [
        Scored(trial, context, early=known.get((context, trial.string))) for context in contexts for trial in trials
    ]


def best_by_rank(items: Sequence[Scored], count: int) -> list[Scored]:
    """At most ``count`` items, by their best rank over late score, Z and reaction."""
    readings: tuple[Callable[[Scored], float], ...] = (
        lambda item: item.reaction or 0.0,
        lambda item: item.log_ratio or 0.0,
        lambda item: item.late or 0.0,
    )
    best: dict[tuple[ContextName, str], int] = {}
    for reading in readings:
        for rank, item in enumerate(sorted(items, key=lambda item: (-reading(item), item.key))):
            best[item.key] = min(rank, best.get(item.key, rank))
    return sorted(items, key=lambda item: (best[item.key], -(item.reaction or 0.0), item.key))[:count]


def obtain_deep(
    items: Sequence[Scored], measuring: Measuring, backgrounds: dict[ContextName, SlotBackground], store: FolderStore,
    name: str, progress: ProgressCallback, message: str,
) -> list[Scored]:  # fmt: skip
    """The items with all scores of the scanning carrier, in pieces."""
    made: list[Scored] = []
    for number, start in enumerate(range(0, len(items), PIECE // 4)):
        progress(start / len(items), f"{message}: {start:,} of {len(items):,} strings")
        part = items[start : start + PIECE // 4]
        made += obtain_scored(store, f"{name}-{number:03d}", partial(measuring.deep, part, backgrounds))
    return made


def halve(
    items: Sequence[Scored], sizes: SearchSizes, measuring: Measuring, carriers: Sequence[Carrier], store: FolderStore,
    progress: ProgressCallback,
) -> list[Scored]:  # fmt: skip
    """The best of the deep scan on more carriers, the largest reaction first."""
    few = best_by_rank(items, sizes.halved)
    progress(0.0, f"{len(few)} strings on {len(carriers)} more prompts")
    scored = obtain_scored(store, "search-halved", lambda: measuring.reactions(few, carriers))
    return sorted(scored, key=lambda item: (-(item.reaction or 0.0), item.key))


def obtain_scored(store: FolderStore, name: str, measure: Callable[[], list[Scored]]) -> list[Scored]:
    """Measured items, read back if an earlier attempt has measured them."""

    def write(folder: Path) -> None:
        (folder / _FILE).write_bytes(_SCORED.dump_json(measure()))

    return _SCORED.validate_json((store.obtain(name, write) / _FILE).read_bytes())


def combined(first: Sequence[Scored], more: Sequence[Scored]) -> list[Scored]:
    """Items of the scan with the reactions that were measured on other carriers."""
    later = {item.key: item for item in more}
    return [item.updated(later[item.key]) if item.key in later else replace(item) for item in first]


def finite(value: float | None) -> float | None:
    """A score for a report: three digits; None if it was not measured or is not a number."""
    return None if value is None or not math.isfinite(value) else round(value, 3)
