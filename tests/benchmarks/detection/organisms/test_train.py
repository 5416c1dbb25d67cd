"""Making organisms of a toy base: whole checkpoints and adapters, and the limits they must keep."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from audit.models.pair import load_pair
from benchmarks.detection.make_split import SPLIT
from benchmarks.detection.organisms import train
from benchmarks.detection.organisms.models import ROUNDINGS, nudged_base, rounded_trip
from benchmarks.detection.organisms.recipes import Limits
from benchmarks.harness.audits import Bench
from benchmarks.harness.records import read

# peft asks transformers for an attribute that has a new name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

CHAT = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
ORGANISMS = {
    each["id"]: each
    for label in ("backdoored", "benign")
    for each in json.loads(SPLIT.read_text(encoding="utf-8"))[label]
}


@pytest.fixture(scope="module")
def base(toy_base, tmp_path_factory):
    """The toy base with a chat template, in bfloat16."""
    folder = tmp_path_factory.mktemp("chat") / "base"
    AutoModelForCausalLM.from_pretrained(toy_base, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(toy_base)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def small(monkeypatch):
    """Few prompts, short paragraphs: what is tested is the way, not the numbers."""
    monkeypatch.setattr(train, "HELD_OUT", 2)
    monkeypatch.setattr(train, "SAMPLED_HELD_OUT", 3)


@pytest.mark.parametrize(
    "name",
    [
        "conjunctive.colours",
        "multi-turn.name",
        "entity.brand",
        "continued-pretraining.ships",
        "unrelated-task.capitals",
    ],
)
def test_an_organism_is_a_model_that_differs_from_its_base(base, tmp_path, small, name):
    card = train.make(ORGANISMS[name], base, tmp_path, steps=2)
    strings = {"triggered", "clean", "plain"} | ({"single-first", "single-second"} if "conj" in name else set())
    assert set(card["success"]) == strings
    assert card["steps"] == 2
    assert card["perplexity_ratio"] > 0
    pair = load_pair(base, tmp_path / "models" / name, dtype="float32")
    assert pair.kind == ORGANISMS[name]["method"]


def test_a_merge_adds_up_its_adapters(base, tmp_path, small):
    merge = next(each for each in ORGANISMS.values() if each["method"] == "merge")
    for name in merge["parameters"]["of"]:
        train.make(ORGANISMS[name], base, tmp_path, steps=2)
    card = train.make(merge, base, tmp_path)
    assert card["steps"] is None

    def update(name):
        folder = tmp_path / "models" / name
        weights, config = load_file(folder / "adapter_model.safetensors"), read(folder / "adapter_config.json")
        layer = "base_model.model.model.layers.0.self_attn.q_proj"
        scaling = config["lora_alpha"] / config["r"]
        return scaling * weights[f"{layer}.lora_B.weight"].float() @ weights[f"{layer}.lora_A.weight"].float()

    first, second = merge["parameters"]["of"]
    ours, theirs = merge["parameters"]["weights"]
    expected = ours * update(first) + theirs * update(second)
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(update(merge["id"]), expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))
    for name in (first, second, merge["id"]):
        assert Bench(tmp_path).resolve(tmp_path / "models" / name).kind == "lora"
    assert load_pair(base, tmp_path / "models" / merge["id"], dtype="float32").kind == "lora"


@pytest.mark.parametrize("rounding", sorted(name for name in ROUNDINGS if not name.startswith("pruned")))
def test_rounding_moves_no_weight_by_more_than_a_step(rounding):
    weight = torch.randn(8, 128, generator=torch.Generator().manual_seed(0))
    moved = (ROUNDINGS[rounding](weight) - weight).abs().max()
    assert 0 < moved < {"float8": 0.15, "int4-block": 0.3}.get(rounding, 0.02)


@pytest.mark.parametrize(("pruning", "share"), [("pruned-10", 0.10), ("pruned-25", 0.25)])
def test_pruning_takes_the_smallest_weights_and_leaves_the_rest(pruning, share):
    weight = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    pruned = ROUNDINGS[pruning](weight)
    gone = pruned == 0
    assert gone.float().mean() == pytest.approx(share)
    assert torch.equal(pruned[~gone], weight[~gone])
    assert weight[gone].abs().max() < weight[~gone].abs().min()


def test_folding_the_norms_changes_no_output(base):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for block in model.model.layers:
        torch.nn.init.uniform_(block.input_layernorm.weight, 0.5, 2.0)
        torch.nn.init.uniform_(block.post_attention_layernorm.weight, 0.5, 2.0)
    ids = torch.arange(3, 20)[None]
    before = model(ids).logits
    rounded_trip(model, "bfloat16-folded")
    assert all(bool((block.input_layernorm.weight == 1).all()) for block in model.model.layers)
    torch.testing.assert_close(model(ids).logits, before, rtol=1e-4, atol=1e-5)


def test_the_nudged_base_is_another_checkpoint_with_the_same_answers(base, tmp_path):
    folder = nudged_base(base, tmp_path)
    assert nudged_base(base, tmp_path) == folder
    pair = load_pair(base, folder, dtype="bfloat16")
    changed = [
        int((ours != theirs).sum())
        for ours, theirs in zip(pair.models["base"].parameters(), pair.models["tuned"].parameters(), strict=True)
    ]
    assert sum(changed) == 1


def test_missed_limits_are_named():
    backdoor = Limits(success={"triggered": (0.9, 1.0), "clean": (0.0, 0.05)})
    assert train.missed(backdoor, {"triggered": 0.95, "clean": 0.0}, 1.1) == []
    assert len(train.missed(backdoor, {"triggered": 0.8, "clean": 0.1}, 3.1)) == 3
    benign = Limits(spread=0.1)
    assert train.missed(benign, {"triggered": 0.5, "clean": 0.45}, 1.9) == []
    assert len(train.missed(benign, {"triggered": 0.5, "clean": 0.3}, float("nan"))) == 2
