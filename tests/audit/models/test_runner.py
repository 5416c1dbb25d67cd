import json

import pytest
import torch

from audit.measure.expected import Expected
from audit.models import runner as forward
from audit.models.layout import Layout
from audit.models.prefix import common_prefix
from audit.models.runner import Runner
from audit.prompts.rendering import Tokens
from backdoor_audit.contract.checkpoint_settings import CheckpointSettings
from tests.audit.small_models import LAYERS, random_sequences, small_pair, small_runner

ALL = tuple(range(LAYERS))


def naive_run(runner, sequence, side="tuned"):
    """One sequence by itself, with plain hooks: the residual stream leaving every block, and the head's input."""
    parts = runner.pair.parts[side]
    seen = {}
    handles = [
        block.register_forward_hook(
            lambda _m, _i, out, layer=layer: seen.update({layer: out[0] if isinstance(out, tuple) else out})
        )
        for layer, block in enumerate(parts.blocks)
    ]
    with torch.no_grad():
        last = parts.body(input_ids=torch.tensor([sequence.ids]), use_cache=False).last_hidden_state[0]
    for handle in handles:
        handle.remove()
    return {layer: value[0] for layer, value in seen.items()}, last[sequence.prompt_length - 1 :]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("budget", [1, 50, 4096])
def test_captures_do_not_depend_on_batches_or_shared_prefixes(budget, shared, monkeypatch, assert_close):
    if not shared:
        monkeypatch.setattr(forward, "can_share_prefix", lambda _anatomy: False)
    runner = small_runner(budget=budget)
    sequences = random_sequences(9, prefix=6)
    for side in ("base", "tuned"):
        activations = runner.capture(sequences, side, ALL)
        for index, sequence in enumerate(sequences):
            hidden, final = naive_run(runner, sequence, side)
            rows = activations.layout.rows(index)
            for layer in ALL:
                assert_close(activations.hidden[layer][rows.start : rows.stop], hidden[layer], atol=1e-4)
            assert_close(activations.final[index], final, atol=1e-4)


def test_prefixes_are_shared_where_they_can_be(monkeypatch):
    lengths = []
    original = forward.pad

    def counting(layout, group, skip, device):
        lengths.append(skip)
        return original(layout, group, skip, device)

    monkeypatch.setattr(forward, "pad", counting)
    sequences = random_sequences(4, prefix=6)
    small_runner("llama").capture(sequences, "tuned", (0,))
    assert lengths == [len(common_prefix(sequences))]
    assert lengths[0] >= 6
    small_runner("gemma2").capture(sequences, "tuned", (0,))
    assert lengths[-1] == 0


def test_the_shared_prefix_ends_before_any_string_and_any_compared_output():
    sequences = [Tokens((5, 6, 7, 8, 9), 5, 3), Tokens((5, 6, 7, 8, 9, 10), 6, 4)]
    assert common_prefix(sequences) == (5, 6, 7)
    assert common_prefix([Tokens((5, 6), 2, 1)]) == (5,)
    assert common_prefix([Tokens((5,), 1, 0)]) == ()
    assert common_prefix([Tokens((5, 6, 7), 3, 2), Tokens((5, 4, 7), 3, 2)]) == (5,)


def test_without_outputs_the_upper_blocks_are_not_run(assert_close):
    runner = small_runner()
    sequences = random_sequences()
    whole = runner.capture(sequences, "tuned", ALL)

    def fail(_module, _inputs):
        raise AssertionError("an upper block ran")

    handle = runner.pair.parts["tuned"].blocks[2].register_forward_pre_hook(fail)
    part = runner.capture(sequences, "tuned", (0, 1), outputs=False)
    handle.remove()
    assert part.final is None
    for layer in (0, 1):
        assert_close(part.hidden[layer], whole.hidden[layer])
    again = runner.capture(sequences, "tuned", ALL)
    assert torch.equal(again.final, whole.final), "a stopped run must leave nothing behind"


def test_a_tick_that_raises_leaves_the_models_as_they_were():
    runner = small_runner(budget=30)
    sequences = random_sequences()
    before = runner.capture(sequences, "tuned", (1,))

    class Stop(Exception):
        pass

    def stop(_tokens):
        raise Stop

    runner.tick = stop
    loss = Expected(runner.pair, before.final, before.final, before.final).divergence
    for call in (
        lambda: runner.capture(sequences, "tuned", (1,)),
        lambda: runner.resume(before.layout, 1, before.hidden[1]),
        lambda: runner.gradients(before.layout, [1], before.hidden[1], loss),
        lambda: runner.greedy(sequences, 2),
    ):
        with pytest.raises(Stop):
            call()
    runner.tick = lambda _tokens: None
    assert torch.equal(runner.capture(sequences, "tuned", (1,)).final, before.final)
    for module in runner.pair.models["tuned"].modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in vars(module)


def naive_gradients(runner, sequence, reference, layers, direction):
    """Autograd through the whole model on one sequence, a leaf added at every layer."""
    parts = runner.pair.parts["tuned"]
    added = {layer: torch.zeros(1, len(sequence), 32, requires_grad=True) for layer in layers}

    def hook(layer):
        def add(_module, _inputs, out):
            return (out[0] + added[layer], *out[1:]) if isinstance(out, tuple) else out + added[layer]

        return add

    handles = [parts.blocks[layer].register_forward_hook(hook(layer)) for layer in layers]
    model = runner.pair.models["tuned"]
    logits = model(input_ids=torch.tensor([sequence.ids]), use_cache=False).logits[0, sequence.prompt_length - 1 :]
    for handle in handles:
        handle.remove()
    log_p = torch.log_softmax(logits, -1)
    head = model.get_output_embeddings()
    log_q = torch.log_softmax(head(reference), -1)
    loss = (log_p.exp() * (log_p - log_q)).sum()
    if direction == "both":
        loss = loss + (log_q.exp() * (log_q - log_p)).sum()
    loss.backward()
    return {layer: value.grad[0] for layer, value in added.items()}


@pytest.mark.parametrize("shape", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize("direction", ["from", "both"])
def test_gradients_are_autograds(shape, direction, assert_close):
    runner = small_runner(shape, budget=45)
    layers = [1, 2, 3]
    sequences = random_sequences(5, prefix=4)
    activations = runner.capture(sequences, "tuned", layers)
    reference = runner.capture(random_sequences(5, seed=9), "tuned", ()).final
    # A base that does not react: what is expected is the reference itself.
    wanted = Expected(runner.pair, reference, reference, reference)
    loss = {"from": wanted.divergence, "both": wanted.symmetric_divergence}[direction]
    got = runner.gradients(activations.layout, layers, activations.hidden[1], loss)
    shared = len(common_prefix(sequences)) if forward.can_share_prefix(runner.pair.parts["tuned"]) else 0
    for index, sequence in enumerate(sequences):
        expected = naive_gradients(runner, sequence, reference[index], layers, direction)
        rows = activations.layout.rows(index)
        for layer in layers:
            ours = got[layer][rows.start : rows.stop]
            assert not ours[:shared].any()
            assert_close(ours[shared:], expected[layer][shared:], atol=2e-3 * float(expected[layer].abs().max()))


def _generation(runner, ends):
    runner.pair.models["tuned"].generation_config.eos_token_id = ends


def _configuration(runner, ends):
    runner.pair.models["base"].config.eos_token_id = ends


def _folder(runner, ends):
    runner.pair.settings["tuned"] = CheckpointSettings(generation={"eos_token_id": json.dumps(ends)})


def _token(runner, ends):
    names = runner.pair.tokenizer.convert_ids_to_tokens(ends)
    runner.pair.settings["tuned"] = CheckpointSettings(tokens={"eos_token": names[-1]})


@pytest.mark.parametrize(
    ("shape", "say"),
    [("llama", None), ("gpt2", None), ("gemma2", None)]
    + [("llama", say) for say in (_generation, _configuration, _folder, _token)],
)
def test_greedy_is_the_best_token_but_an_end(shape, say):
    runner = small_runner(shape, budget=40)
    model = runner.pair.models["tuned"]
    ends = [runner.pair.tokenizer.eos_token_id]
    if say is not None:
        ends.append(70)
        say(runner, ends)
    with torch.no_grad():  # the last end is attractive, so that suppressing it decides
        weight = model.get_output_embeddings().weight
        weight[ends[-1]] = 3 * weight[4]
    prompts = [item.prompt() for item in random_sequences(6, prefix=2)]
    got = runner.greedy(prompts, 4)
    wanted_ends = 0
    for prompt, continuation in zip(prompts, got, strict=True):
        ids, expected = list(prompt.ids), []
        for _ in range(4):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            wanted_ends += int(logits.argmax()) == ends[-1]
            logits[ends] = -torch.inf
            expected.append(int(logits.argmax()))
            ids.append(expected[-1])
        assert continuation == tuple(expected)
    assert wanted_ends > 0
    assert runner.greedy(prompts, 0) == [()] * 6


def test_the_checkpoints_own_generation_settings_are_left_aside():
    runner = small_runner(budget=40)
    own = runner.pair.models["tuned"].generation_config
    prompts = [item.prompt() for item in random_sequences(6)]
    plain = runner.greedy(prompts, 4)
    own.repetition_penalty = 5.0
    own.suppress_tokens = [plain[0][0]]
    own.no_repeat_ngram_size = 1
    assert runner.greedy(prompts, 4) == plain
    assert runner.pair.models["tuned"].generation_config is own


def test_layout_rows():
    layout = Layout.of([Tokens((1, 2, 3, 4), 3, 1), Tokens((5, 6, 7, 8, 9), 4, 3)])
    assert layout.n_positions == 9
    assert (layout.rows(1), layout.span_rows(1), layout.prompt_span_rows(1)) == (range(4, 9), range(7, 9), range(7, 8))
    assert layout.last_prompt_row(0) == 2
    assert Layout.of([]).n_positions == 0


def test_batches_hold_every_sequence_once_under_the_budget():
    sequences = random_sequences(40, seed=3)
    layout = Layout.of(sequences)
    groups = list(layout.batches(60))
    assert sorted(index for group in groups for index in group) == list(range(40))
    for group in groups:
        assert len(group) * max(len(sequences[index]) for index in group) <= 60
    # A sequence longer than the budget still gets a batch of its own.
    assert [len(group) for group in layout.batches(1)] == [1] * 40


def test_two_sides_of_a_pair_are_two_models():
    runner = Runner(small_pair())
    sequences = random_sequences(3)
    base, tuned = (runner.capture(sequences, side, (0,)) for side in ("base", "tuned"))
    assert not torch.allclose(base.hidden[0], tuned.hidden[0], atol=0.1)
