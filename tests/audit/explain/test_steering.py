import pytest
import torch

from audit.explain.steering import Run, continuations
from audit.prompts.rendering import Tokens
from tests.audit.small_models import random_sequences, small_runner

LAYER = 1


def naive_step(runner, ids, span, source_ids, source_span, basis):
    """Logits of the last position, one sequence at a time, without a cache: both runs, then the changed one."""
    parts, model = runner.pair.parts["tuned"], runner.pair.models["tuned"]
    seen = {}

    def keep(_module, _inputs, output):
        seen["hidden"] = output[0] if isinstance(output, tuple) else output

    def change(_module, _inputs, output):
        own = (output[0] if isinstance(output, tuple) else output).clone()
        width = min(len(ids) - span, len(source_ids) - source_span)
        for back in range(1, width + 1):
            for column in basis.T:
                amount = (seen["hidden"][0, -back] - own[0, -back]) @ column
                own[0, -back] = own[0, -back] + amount * column
        return (own, *output[1:]) if isinstance(output, tuple) else own

    with torch.no_grad():
        handle = parts.blocks[LAYER].register_forward_hook(keep)
        model(input_ids=torch.tensor([source_ids]), use_cache=False)
        handle.remove()
        handle = parts.blocks[LAYER].register_forward_hook(change)
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        handle.remove()
    return logits


def naive(runner, run, n_tokens):
    ids, source, found = list(run.prompt.ids), list(run.source.ids), []
    for _ in range(n_tokens):
        logits = naive_step(runner, ids, run.prompt.span_start, source, run.source.span_start, run.basis)
        token = int(logits.argmax())
        if token == runner.pair.tokenizer.eos_token_id:
            break
        found.append(token)
        ids.append(token)
        source.append(token)
    return tuple(found)


def basis_of(rank, seed):
    columns = torch.randn(32, rank, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(columns)[0]


def some_runs():
    left = [item.prompt() for item in random_sequences(5, seed=1, prefix=2)]
    right = [item.prompt() for item in random_sequences(5, seed=2, prefix=2)]
    ranks = (1, 3, 2, 4, 8)
    return [Run(one, other, basis_of(rank, rank)) for rank, one, other in zip(ranks, left, right, strict=True)]


@pytest.mark.parametrize("shape", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("budget", [1, 60, 4096])
def test_changed_runs_are_those_of_a_plain_hook(shape, budget):
    runner = small_runner(shape, budget=budget)
    runs = some_runs()
    plain = [Run(run.prompt) for run in runs]
    got = continuations(runner, LAYER, [*plain, *runs], 5)
    expected = [naive(runner, run, 5) for run in runs]
    assert got[len(plain) :] == expected
    assert got[: len(plain)] == continuations(runner, LAYER, plain, 5)
    assert got[: len(plain)] != expected, "the change must matter"


def test_a_run_that_is_its_own_source_stays_what_it_is():
    runner = small_runner()
    prompts = [run.prompt for run in some_runs()]
    same = [Run(prompt, prompt, basis_of(8, 3)) for prompt in prompts]
    assert continuations(runner, LAYER, same, 4) == continuations(runner, LAYER, [Run(p) for p in prompts], 4)


def test_the_whole_space_makes_it_the_source():
    """With all coefficients replaced from the first token on, what comes after the layer is the source's."""
    runner = small_runner()
    one, other = (Tokens(item.ids[:8], 8, 0) for item in random_sequences(2, seed=4, forced=6))
    run = Run(one, other, torch.eye(32))
    assert continuations(runner, LAYER, [run], 5) == continuations(runner, LAYER, [Run(other)], 5)


def test_an_end_of_text_ends_the_answer():
    runner = small_runner()
    prompts = [run.prompt for run in some_runs()]
    whole = continuations(runner, LAYER, [Run(prompt) for prompt in prompts], 5)
    runner.pair.tokenizer.eos_token = runner.pair.tokenizer.convert_ids_to_tokens(whole[0][2])
    cut = continuations(runner, LAYER, [Run(prompt) for prompt in prompts], 5)
    assert cut[0] == whole[0][:2]
    assert all(long[: len(short)] == short for long, short in zip(whole, cut, strict=True))


def test_each_of_several_ends_ends_the_answer():
    runner = small_runner()
    prompts = [run.prompt for run in some_runs()]
    whole = continuations(runner, LAYER, [Run(prompt) for prompt in prompts], 5)
    runner.pair.models["tuned"].generation_config.eos_token_id = [2, whole[0][2]]
    cut = continuations(runner, LAYER, [Run(prompt) for prompt in prompts], 5)
    assert cut[0] == whole[0][:2]


def test_no_answer_is_longer_than_the_model_has_positions():
    runner = small_runner("gpt2")
    limit = runner.pair.parts["tuned"].body.config.max_position_embeddings
    prompt = Tokens(tuple([5, 6] * (limit // 2))[: limit - 2], limit - 2, limit - 4)
    assert len(continuations(runner, LAYER, [Run(prompt, prompt, basis_of(1, 0))], 6)[0]) <= 2
    full = Tokens((*prompt.ids, 5, 6), limit, limit - 4)
    assert continuations(runner, LAYER, [Run(full)], 6) == [()]
