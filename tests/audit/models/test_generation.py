"""What greedy generation sets up, against prompts that are run one by one."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import GenerationConfig

from audit.models.generation import end_tokens, left_padded, pad_token, plain_generation
from audit.models.lora import FusedLora, Switch
from backdoor_audit.contract.checkpoint_settings import CheckpointSettings
from tests.audit.small_models import random_sequences, small_model, small_pair


@pytest.mark.parametrize(("pad", "eos", "expected"), [(7, 2, 7), (0, 2, 0), (None, 2, 2), (None, None, 0)])
def test_the_padding_is_the_tokenizers_own_or_its_end_or_nothing(pad, eos, expected):
    assert pad_token(SimpleNamespace(pad_token_id=pad, eos_token_id=eos)) == expected


def test_prompts_are_padded_on_the_left_and_masked():
    prompts = random_sequences(5, forced=0)
    ids, mask = left_padded(prompts, 7, torch.device("cpu"))
    longest = max(map(len, prompts))
    for row, prompt in enumerate(prompts):
        missing = longest - len(prompt)
        assert ids[row].tolist() == [7] * missing + list(prompt.ids)
        assert mask[row].tolist() == [0] * missing + [1] * len(prompt)


def greedy(model, prompt, tokens=6):
    """The naive way: one token after the other, the most likely each time."""
    ids = list(prompt.ids)
    with torch.no_grad():
        for _ in range(tokens):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_settings_of_the_checkpoint_do_not_count_and_come_back():
    model = small_model("llama")
    own = GenerationConfig(repetition_penalty=9.0, do_sample=True, temperature=3.0, pad_token_id=0)
    model.generation_config = own
    prompts = random_sequences(4, forced=0)
    ids, mask = left_padded(prompts, 0, torch.device("cpu"))
    with plain_generation(model):
        written = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=6, min_new_tokens=6, do_sample=False, pad_token_id=0
        )
    assert model.generation_config is own
    for row, prompt in enumerate(prompts):
        assert written[row, ids.shape[1] :].tolist() == greedy(model, prompt)


def test_ends_are_those_of_both_models_and_within_the_vocabulary():
    pair = small_pair()
    pair.models["base"].generation_config.eos_token_id = [5, 4]
    pair.models["tuned"].config.eos_token_id = [6, 10_000]
    pair.settings["tuned"] = CheckpointSettings(
        generation={"eos_token_id": "[7]"}, tokens={"eos_token": pair.tokenizer.convert_ids_to_tokens(8)}
    )
    pair.settings["base"] = CheckpointSettings(generation={"eos_token_id": "no JSON"}, tokens={"eos_token": "unknown"})
    assert end_tokens(pair) == [2, 4, 5, 6, 7, 8]


def test_an_adapted_head_ends_texts_as_a_plain_one():
    pair = small_pair()
    plain, head = end_tokens(pair), pair.parts["tuned"].head
    rows, width = head.weight.shape
    fused = FusedLora(head, torch.zeros(2, width), torch.zeros(rows, 2), 1.0, Switch())
    pair.parts["tuned"] = replace(pair.parts["tuned"], head=fused)
    assert end_tokens(pair) == plain
