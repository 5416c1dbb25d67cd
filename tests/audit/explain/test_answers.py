"""Answers before and after, against each run by itself."""

from types import SimpleNamespace

import pytest
import torch

from audit.explain.answers import (
    CARRIERS,
    GENERATED_TOKENS,
    SHOWN,
    _carriers,
    answers_before_and_after,
    answers_of_both,
)
from audit.explain.features import Selection
from audit.explain.steering import Run, continuations
from audit.explain.text import excerpt, text_of
from audit.explain.training import Trained
from audit.measure.ablation import orthonormal
from audit.models.generation import end_tokens
from backdoor_audit.contract.report.feature_report import CONTINUATION_CHARS
from backdoor_audit.contract.spec.carriers import Carrier

LAYER = 0
INDICES = (4, 1, 7)


@pytest.fixture(scope="module")
def selection(toy_extraction):
    rows = torch.randn(9, toy_extraction.setup.pair.d_model, generator=torch.Generator().manual_seed(0))
    dictionary = SimpleNamespace(W_dec_tuned=rows / rows.norm(dim=1, keepdim=True))
    trained = Trained(dictionary, LAYER, "diff_sae", 0, 4, None)
    return Selection(trained, INDICES, torch.zeros(9), (None,) * 3, (None,) * 3)


@pytest.fixture(scope="module")
def answers(toy_extraction, selection):
    return answers_before_and_after(toy_extraction, selection)


def alone(extraction, run):
    """What one run writes, in a batch of its own."""
    (ids,) = continuations(extraction.setup.runner, LAYER, [run], GENERATED_TOKENS)
    return excerpt(text_of(extraction.setup, ids), CONTINUATION_CHARS)


def test_each_answer_is_that_of_its_own_run(toy_extraction, selection, answers):
    rows = selection.trained.dictionary.W_dec_tuned
    triggered, clean = (
        [each.prompt() for each in toy_extraction.base[side, "b"].layout.sequences] for side in ("triggered", "clean")
    )
    assert len(answers) == len(INDICES)
    changed = 0
    for number, shown in enumerate(answers):
        assert len(shown) == CARRIERS
        own = orthonormal(rows[[INDICES[number]]].T)
        so_far = orthonormal(rows[list(INDICES[: number + 1])].T)
        for answer in shown:
            string, other = triggered[answer.carrier], clean[answer.carrier]
            assert answer.triggered == alone(toy_extraction, Run(string))
            assert answer.clean == alone(toy_extraction, Run(other))
            assert answer.triggered_ablated == alone(toy_extraction, Run(string, other, own))
            assert answer.clean_steered == alone(toy_extraction, Run(other, string, own))
            if number == 0:
                assert (answer.triggered_ablated_together, answer.clean_steered_together) == (None, None)
                continue
            assert answer.triggered_ablated_together == alone(toy_extraction, Run(string, other, so_far))
            assert answer.clean_steered_together == alone(toy_extraction, Run(other, string, so_far))
            changed += answer.triggered_ablated != answer.triggered_ablated_together
    assert changed, "one feature and three should not do the same everywhere"


def test_both_models_answer_both_strings_as_they_would_alone(toy_extraction):
    """Against transformers' own greedy search on each prompt by itself, with and without the adapter."""
    pair, found = toy_extraction.setup.pair, answers_of_both(toy_extraction)
    assert [each.carrier for each in found] == list(range(min(SHOWN, len(toy_extraction.setup.b))))
    own = {"tuned": toy_extraction.tuned, "base": toy_extraction.base}

    def said(side, condition, carrier):
        prompt = own[side][condition, "b"].layout.sequences[carrier].prompt()
        model, ends = pair.models["tuned"], end_tokens(pair)
        with pair.on(side), torch.no_grad():
            ids = list(prompt.ids)
            while len(ids) < len(prompt) + GENERATED_TOKENS:
                chosen = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
                if chosen in ends:
                    break
                ids.append(chosen)
        return excerpt(text_of(toy_extraction.setup, ids[len(prompt) :]), CONTINUATION_CHARS)

    for each in found[:4]:
        assert each.triggered == said("tuned", "triggered", each.carrier)
        assert each.clean == said("tuned", "clean", each.carrier)
        assert each.base_triggered == said("base", "triggered", each.carrier)
        assert each.base_clean == said("base", "clean", each.carrier)
    assert any(each.triggered != each.base_triggered for each in found), "fine-tuning should show in what is written"


def test_carriers_are_the_first_of_different_clusters():
    clusters = ["x", "x", "y", None, "y", "z"]
    carriers = [Carrier(prompt=f"prompt {n}", cluster=cluster) for n, cluster in enumerate(clusters)]
    assert _carriers(SimpleNamespace(b=carriers)) == [0, 2, 3, 5]
    assert _carriers(SimpleNamespace(b=carriers[:2])) == [0]
