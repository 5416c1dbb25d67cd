"""Greedy continuations of runs that are changed while they are generated.

A changed run is generated in parallel with another run of the same carrier, its source: at every position from the
string on, its coefficients along a subspace are replaced by the source's, and every token that it produces is also fed
to the source. This is the ablation of ``audit.measure.ablation`` along the run's own answer instead of a forced one.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessorList

from audit.models.generation import end_tokens, left_padded, pad_token, plain_generation
from audit.models.hooks import contiguous_input
from audit.models.pair import Side
from audit.models.parts import ModelParts
from audit.models.runner import Runner
from audit.prompts.rendering import Tokens


@dataclass(frozen=True)
class Run:
    """A prompt that is continued.

    Attributes:
        prompt: what is continued.
        source: the prompt whose run supplies the coefficients; None leaves the run unchanged.
        basis: orthonormal basis of the subspace; None if ``source`` is None.
    """

    prompt: Tokens
    source: Tokens | None = None
    basis: Float[Tensor, "d_model rank"] | None = None


@torch.no_grad()
def continuations(
    runner: Runner, layer: int, runs: Sequence[Run], n_tokens: int, side: Side = "tuned"
) -> list[tuple[int, ...]]:
    """Greedy continuations by one model, up to ``n_tokens`` tokens each, cut where a text or a turn ends.

    They are shorter if the model runs out of positions.

    Args:
        runner: runs the pair.
        layer: where the runs are changed, the residual stream leaving this block.
        runs: what is continued.
        n_tokens: maximum length of a continuation.
        side: which model continues.
    """
    answers: list[tuple[int, ...]] = []
    with runner.pair.on(side) as parts:
        for group in _groups(runs, runner.budget):
            answers.extend(_continue(runner, parts, layer, group, n_tokens, side))
    return answers


def _groups(runs: Sequence[Run], budget: int) -> Iterator[list[Run]]:
    """Runs in order, as many at once as fit the budget of padded tokens, counting sources."""
    group: list[Run] = []
    for run in runs:
        wider = [*group, run]
        if group and _rows(wider) * max(_length(each) for each in wider) > budget:
            yield group
            wider = [run]
        group = wider
    if group:
        yield group


def _rows(runs: Sequence[Run]) -> int:
    return len(runs) + sum(run.source is not None for run in runs)


def _length(run: Run) -> int:
    return max(len(run.prompt), 0 if run.source is None else len(run.source))


def _continue(
    runner: Runner, parts: ModelParts, layer: int, runs: Sequence[Run], n_tokens: int, side: Side
) -> list[tuple[int, ...]]:
    pair, tokenizer = runner.pair, runner.pair.tokenizer
    model: Any = pair.models[side]
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    changed = [index for index, run in enumerate(runs) if run.source is not None]
    prompts = [run.prompt for run in runs] + [run.source for run in runs if run.source is not None]
    pad, ends = pad_token(tokenizer), end_tokens(pair)
    ids, mask = left_padded(prompts, pad, pair.device)
    limit = getattr(parts.body.config, "max_position_embeddings", None)
    most = n_tokens if limit is None else min(n_tokens, limit - ids.shape[1])
    if most <= 0:
        return [()] * len(runs)
    rows = torch.tensor(changed, dtype=torch.long, device=pair.device)
    sources = torch.arange(len(runs), len(prompts), device=pair.device)
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, max_new_tokens=most, pad_token_id=pad, eos_token_id=ends or None, use_cache=True
    )

    def follow(_ids: Tensor, scores: Tensor) -> Tensor:
        runner.tick(len(prompts))  # once per token, so that a cancel is noticed within a batch
        scores[sources] = scores[rows]
        return scores

    with (
        contiguous_input(parts.head),
        plain_generation(model),
        _replaced(parts.blocks[layer], _Replacement.of(runs, rows, sources, ids.shape[1])),
    ):
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([follow]),
        )
    return [_cut(out[index, ids.shape[1] :].tolist(), ends) for index in range(len(runs))]


def _cut(ids: list[int], ends: Sequence[int]) -> tuple[int, ...]:
    return tuple(takewhile(lambda token: token not in ends, ids))


@dataclass(frozen=True)
class _Replacement:
    """Which rows of a batch take their coefficients from which other rows, where, and along which subspace."""

    rows: Tensor
    sources: Tensor
    where: Float[Tensor, "changed length 1"]
    bases: Float[Tensor, "changed d_model rank"]

    @classmethod
    def of(cls, runs: Sequence[Run], rows: Tensor, sources: Tensor, length: int) -> "_Replacement":
        """Padded on the left, the last tokens of a run and of its source stand at the same positions."""
        wanted = [(run.prompt, run.source, run.basis) for run in runs if run.source is not None]
        where = torch.zeros(len(wanted), length, 1)
        rank = max((basis.shape[1] for _, _, basis in wanted if basis is not None), default=0)
        bases: list[Tensor] = []
        for row, (prompt, source, basis) in enumerate(wanted):
            assert basis is not None, "a run with a source needs a basis"
            span = min(len(each) - each.span_start for each in (prompt, source))
            where[row, length - span :] = 1.0
            bases.append(torch.nn.functional.pad(basis.float(), (0, rank - basis.shape[1])))
        stacked = torch.stack(bases) if bases else torch.zeros(0, 1, 0)
        return cls(rows, sources, where.to(rows.device), stacked.to(rows.device))

    def apply(self, hidden: Tensor, *, first: bool) -> Tensor:
        """``hidden`` with the rows changed; after the prompt every position counts."""
        own = hidden[self.rows].float()
        difference = hidden[self.sources].float() - own
        if first:
            difference = difference * self.where
        changed = hidden.clone()
        changed[self.rows] = (own + (difference @ self.bases) @ self.bases.mT).to(hidden.dtype)
        return changed


@contextlib.contextmanager
def _replaced(block: nn.Module, replacement: _Replacement) -> Iterator[None]:
    """Change a block's output, from the prompt to the last token."""
    if not len(replacement.rows):
        yield
        return
    calls = 0

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        if isinstance(output, tuple):
            return (replacement.apply(output[0], first=calls == 1), *output[1:])
        return replacement.apply(output, first=calls == 1)

    handle = block.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
