"""What the models answer: both under both strings, and the fine-tuned one before and after a feature is changed
(docs/decisions/0035-answers-before-and-after.md).
"""

from typing import Final

from audit.explain.features import Selection
from audit.explain.steering import Run, continuations
from audit.explain.text import excerpt, text_of
from audit.measure.ablation import orthonormal
from audit.measure.extraction import Condition, Extraction, Half
from audit.measure.preflight import AuditSetup
from audit.models.pair import Side
from audit.models.runner import Activations
from audit.prompts.carriers import cluster_of
from backdoor_audit.contract.report.answers import Answers
from backdoor_audit.contract.report.feature_report import CONTINUATION_CHARS, EXCERPT_CHARS, Continuation

CARRIERS: Final = 3
"""Carriers that are answered with and without each feature."""
SHOWN: Final = 10
"""Carriers that both models answer under both strings."""
_CONDITIONS: Final[tuple[Condition, Condition]] = ("triggered", "clean")
GENERATED_TOKENS: Final = 24


def answers_of_both(extraction: Extraction) -> tuple[Answers, ...]:
    """Answers of both models under both strings, each to its own prompts, in the order of the carriers."""
    setup = extraction.setup
    first = _carriers(setup)
    carriers = sorted([*first, *(each for each in range(len(setup.b)) if each not in first)][:SHOWN])
    said: dict[tuple[Side, Condition], list[str]] = {}
    sides: tuple[tuple[Side, dict[tuple[Condition, Half], Activations]], ...] = (
        ("tuned", extraction.tuned), ("base", extraction.base)
    )  # fmt: skip
    for side, runs in sides:
        for condition in _CONDITIONS:
            sequences = runs[condition, "b"].layout.sequences
            prompts = [Run(sequences[carrier].prompt()) for carrier in carriers]
            said[side, condition] = [
                excerpt(text_of(setup, ids), CONTINUATION_CHARS)
                for ids in continuations(setup.runner, setup.layers[0], prompts, GENERATED_TOKENS, side)
            ]
    shown = extraction.tuned["triggered", "b"].layout.sequences
    return tuple(
        Answers(
            carrier=carrier,
            prompt=excerpt(text_of(setup, shown[carrier].prompt().ids), EXCERPT_CHARS, keep_end=True),
            triggered=said["tuned", "triggered"][row],
            clean=said["tuned", "clean"][row],
            base_triggered=said["base", "triggered"][row],
            base_clean=said["base", "clean"][row],
        )
        for row, carrier in enumerate(carriers)
    )


def answers_before_and_after(extraction: Extraction, selection: Selection) -> list[tuple[Continuation, ...]]:
    """Answers before and after, for each feature alone and together with those selected before it."""
    setup, decoder = extraction.setup, selection.trained.dictionary.W_dec_tuned.cpu()
    carriers = _carriers(setup)[:CARRIERS]
    triggered, clean = (
        [sequence.prompt() for sequence in extraction.tuned[condition, "b"].layout.sequences]
        for condition in _CONDITIONS
    )
    sets = [[index] for index in selection.indices]
    sets += [list(selection.indices[: index + 1]) for index in range(1, len(selection.indices))]
    bases = [orthonormal(decoder[each].T) for each in sets]
    runs = [Run(side[carrier]) for carrier in carriers for side in (triggered, clean)]
    for carrier in carriers:
        for basis in bases:
            runs.append(Run(triggered[carrier], clean[carrier], basis))
            runs.append(Run(clean[carrier], triggered[carrier], basis))
    answers = [
        excerpt(text_of(setup, ids), CONTINUATION_CHARS)
        for ids in continuations(setup.runner, selection.trained.layer, runs, GENERATED_TOKENS)
    ]
    intact, changed = answers[: 2 * len(carriers)], answers[2 * len(carriers) :]
    rows: list[tuple[Continuation, ...]] = []
    for index in range(len(selection.indices)):
        together = len(selection.indices) + index - 1 if index else None
        shown = []
        for number, carrier in enumerate(carriers):
            own = changed[2 * len(sets) * number :]
            shown.append(
                Continuation(
                    carrier=carrier,
                    prompt=excerpt(text_of(setup, triggered[carrier].ids), EXCERPT_CHARS, keep_end=True),
                    triggered=intact[2 * number],
                    triggered_ablated=own[2 * index],
                    triggered_ablated_together=None if together is None else own[2 * together],
                    clean=intact[2 * number + 1],
                    clean_steered=own[2 * index + 1],
                    clean_steered_together=None if together is None else own[2 * together + 1],
                )
            )
        rows.append(tuple(shown))
    return rows


def _carriers(setup: AuditSetup) -> list[int]:
    """Indices of the first carriers of B that belong to different clusters."""
    by_cluster: dict[str, int] = {}
    for index, carrier in enumerate(setup.b):
        by_cluster.setdefault(cluster_of(carrier), index)
    return list(by_cluster.values())
