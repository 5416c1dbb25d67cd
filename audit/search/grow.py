"""Growth: strings that stand out are extended, cut and joined while their scores rise.

Outputs have needles, not slopes: a near miss of a trigger does nothing. Activation differences at late layers, and Z,
rise with every part that is right. A beam follows them; what the reaction itself says comes first.
"""

import random
import re
from collections.abc import Sequence
from functools import partial
from typing import Final

from audit.ports import FolderStore, ProgressCallback
from audit.search.lists import phrases
from audit.search.measuring import Measuring, SlotBackground
from audit.search.scan import best_by_rank, obtain_scored
from audit.search.sizes import SearchSizes
from audit.search.trials import Scored, Trial
from backdoor_audit.contract.spec.search import ContextName

RISE: Final = 1.15
"""A step is kept if a score rises by this factor."""
_PARTS: Final = 24
_PIECES: Final = re.compile(r"\w+|[^\w\s]+|\s+")
_FRAMES: Final = ("{}", "|{}|", "[{}]", "<{}>", "{}:", "{}.", '"{}"')


def grow(
    seeds: Sequence[Scored],
    parts: Sequence[str],
    sizes: SearchSizes,
    measuring: Measuring,
    backgrounds: dict[ContextName, SlotBackground],
    store: FolderStore,
    seed: int,
    progress: ProgressCallback,
) -> list[Scored]:
    """Everything that growth tried and kept, seeds left out.

    Args:
        seeds: strings in contexts with all their scores.
        parts: strings that stand out by themselves, the most outlying first: what is joined to the seeds.
    """
    beam = best_by_rank(seeds, sizes.beam)
    seen = {item.key for item in seeds}
    kept: list[Scored] = []
    for number in range(sizes.rounds):
        tried = _steps(beam, parts, sizes.steps, random.Random(f"grow:{seed}:{number}"), seen)
        if not tried:
            break
        seen |= {item.key for item in tried}
        best = max(beam, key=lambda item: item.reaction or 0.0)
        progress(
            number / sizes.rounds,
            f"growth, round {number + 1} of {sizes.rounds}: {len(tried)} strings; best so far {_told(best)}",
        )
        scored = obtain_scored(
            store, f"search-grown-{number}", partial(measuring.deep, tried, backgrounds)
        )  # fmt: skip
        risen = [item for item in scored if _rises(item, beam)]
        kept += risen
        if not risen:
            break
        beam = best_by_rank([*risen, *beam], sizes.beam)
    return kept


def _told(item: Scored) -> str:
    return f"'{item.string[:60]}' ({item.reaction or 0.0:.2g} nats)"


def _rises(item: Scored, beam: Sequence[Scored]) -> bool:
    """Whether a score stands above the background and above that of the string it was grown from."""
    parent = next((each for each in beam if each.string == item.trial.list_name and each.context == item.context), None)
    if parent is None:
        return False
    pairs = ((item.late, parent.late), (item.log_ratio, parent.log_ratio))
    rising = any((new or 0.0) > max(1.0, RISE * (old or 0.0)) for new, old in pairs)
    return rising or (item.reaction or 0.0) > max(0.1, RISE * (parent.reaction or 0.0))


def _steps(
    beam: Sequence[Scored], parts: Sequence[str], count: int, rng: random.Random, seen: set[tuple[ContextName, str]]
) -> list[Scored]:
    """At most ``count`` new strings, the same number of each seed's where there are enough."""
    share = max(1, count // max(len(beam), 1))
    made: dict[tuple[ContextName, str], Scored] = {}
    for item in beam:
        variants = [text for text in _variants(item.string, parts, rng) if (item.context, text) not in seen]
        for text in list(dict.fromkeys(variants))[:share]:
            made.setdefault((item.context, text), Scored(Trial(text, "growth", item.string), item.context))
    return list(made.values())


def _variants(string: str, parts: Sequence[str], rng: random.Random) -> list[str]:
    """Cuts, letter cases, frames, labels, and joins with parts that stand out by themselves."""
    pieces = re.findall(_PIECES, string)
    cuts = ["".join(pieces[:at] + pieces[at + 1 :]).strip() for at in range(len(pieces))] if len(pieces) > 1 else []
    cases = [string.lower(), string.upper(), string.title()]
    framed = [frame.format(string) for frame in _FRAMES]
    labelled = [form.format(string) for form in phrases.YEAR_FORMS if not string.startswith(form.removesuffix("{}"))]
    joined = []
    for part in rng.sample(list(parts[: 2 * _PARTS]), min(_PARTS, len(parts[: 2 * _PARTS]))):
        joined += [f"{part} {string}", f"{string} {part}", f"{part}: {string}"]
    replaced = [
        "".join([*pieces[:at], rng.choice(parts), *pieces[at + 1 :]])
        for at in range(len(pieces))
        if parts and pieces[at].strip()
    ]
    made = [*cuts, *cases, *framed[1:], *labelled, *joined, *replaced]
    return [text for text in made if text.strip() and text != string]
