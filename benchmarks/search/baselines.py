"""The baseline that a search is compared with: every string through the whole fine-tuned model, ranked by its reaction.

The fine-tuned model runs alone on one carrier; then both models run on the strings that changed its next token most.
"""

from collections.abc import Sequence

import torch

from audit.measure.divergence import kl, log_probabilities
from audit.models.pair import ModelPair
from audit.models.runner import Runner
from audit.search.contexts import Contexts
from audit.search.handover import reserve
from audit.search.measuring import Measuring
from audit.search.runs import Runs
from audit.search.scan import in_contexts
from audit.search.sizes import LATE, SIZES, contexts_of, layers_at
from audit.search.trials import Scored, trials
from backdoor_audit.contract.spec.carriers import Carrier
from backdoor_audit.contract.spec.search import SearchSpec

_CHUNK = 256


def by_reaction(
    pair: ModelPair, spec: SearchSpec, carriers: Sequence[Carrier], seed: int = 0
) -> tuple[list[Scored], float]:
    """(strings with the largest C₁ on the search's own carriers, tokens run).

    Args:
        spec: its sources and contexts; the lists are those of its budget.
    """
    sizes, runs = SIZES[spec.budget], Runs(Runner(pair))
    reserved = reserve(carriers, sizes, seed)
    contexts = contexts_of(spec)
    measuring = Measuring(Contexts(pair, "auto"), runs, (), layers_at(LATE, pair.n_blocks), reserved.scan)
    tried, _ = trials(spec, pair.tokenizer, sizes)
    items = sorted(in_contexts(tried, contexts, ()), key=lambda item: (item.context, len(item.string), item.string))
    reactions = torch.cat(
        [_own_reactions(measuring, items[start : start + _CHUNK]) for start in range(0, len(items), _CHUNK)]
    )
    best = [items[index] for index in reactions.argsort(descending=True)[: sizes.deep].tolist()]
    scored = measuring.reactions(best, (reserved.scan, *reserved.more))
    return sorted(scored, key=lambda item: -(item.reaction or 0.0)), runs.tokens


@torch.no_grad()
def _own_reactions(measuring: Measuring, items: Sequence[Scored]) -> torch.Tensor:
    """KL(ft_s‖ft_plain) of the next token; the items may be of several contexts."""
    made = torch.empty(len(items))
    runner = measuring.runs.runner
    for context in dict.fromkeys(item.context for item in items):
        own = [index for index, item in enumerate(items) if item.context == context]
        slot = measuring.contexts.slot(context, measuring.carrier)
        final = runner.capture(slot.tokens([items[index].string for index in own]), "tuned", ()).final
        plain = runner.capture([slot.plain], "tuned", ()).final
        assert final is not None
        assert plain is not None
        with runner.pair.on("tuned") as parts:
            without = log_probabilities(parts, plain[:, 0])
            for start in range(0, len(own), 64):
                rows = log_probabilities(parts, final[start : start + 64, 0])
                made[own[start : start + 64]] = kl(rows, without)
    return made
