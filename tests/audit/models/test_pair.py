"""Pairs that cannot be audited are refused with a code, a message and a hint; those that can are told apart."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from audit.errors import IdenticalModels, ModelRejected, ModelsIncompatible
from audit.models.pair import choose_dtype, load_pair
from models_store.verification.pairs import check_pair
from models_store.verification.verify import verify_checkpoint
from models_store.view import write_view
from tests.toy import write_toy_adapter, write_toy_base


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A full checkpoint of the toy base's shape with other weights."""
    return write_toy_base(tmp_path_factory.mktemp("pair") / "other", seed=5)


def copied(folder, target, **tensors):
    """A copy of a checkpoint with some tensors replaced (None: left out)."""
    shutil.copytree(folder, target)
    file = next(target.glob("*.safetensors"))
    held = load_file(file)
    for name, value in tensors.items():
        found = next(key for key in held if name in key)
        held.pop(found)
        if value is not None:
            held[found] = value
    save_file(held, file, metadata={"format": "pt"})
    return target


def refused(error, code, base, tuned, match):
    with pytest.raises(error, match=match) as caught:
        load_pair(base, tuned, dtype="float32")
    assert caught.value.code == code
    assert caught.value.hint
    return caught.value


def test_a_full_pair(toy_base, other):
    pair = load_pair(toy_base, other, dtype="float32")
    assert (pair.kind, pair.n_blocks, pair.d_model, pair.precision) == ("full", 2, 32, "float32")
    assert pair.models["base"] is not pair.models["tuned"]
    assert not any(parameter.requires_grad for model in pair.models.values() for parameter in model.parameters())


def test_identical_models(toy_base, tmp_path):
    refused(IdenticalModels, "identical_models", toy_base, copied(toy_base, tmp_path / "same"), "same weights")


def test_an_adapter_of_zeros(toy_base, toy_adapter, tmp_path):
    target = shutil.copytree(toy_adapter, tmp_path / "zero")
    file = target / "adapter_model.safetensors"
    held = {name: torch.zeros_like(v) if "lora_B" in name else v for name, v in load_file(file).items()}
    save_file(held, file)
    refused(IdenticalModels, "identical_models", toy_base, target, "zero")


@pytest.mark.parametrize(("change", "match"), [({"layers": 3}, "num_hidden_layers"), ({"d_model": 64}, "hidden_size")])
def test_another_shape(change, match, toy_base, tmp_path):
    refused(ModelsIncompatible, "models_incompatible", toy_base, write_toy_base(tmp_path / "x", **change), match)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rms_norm_eps": 1e-2}, "rms_norm_eps: 1e-06 in the base, 0.01 in the fine-tuned model"),
        ({"rope_theta": 1e6, "rope_parameters": None}, "rope_parameters.rope_theta: 10000.0 in the base, 1000000.0"),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_parameters": None},
            "rope_parameters.factor: not set in the base, 4.0",
        ),
        (
            {
                "rope_scaling": {"type": "dynamic", "factor": 2.0},
                "rope_parameters": None,
                "max_position_embeddings": 99,
            },
            "max_position_embeddings: not set in the base, 99",
        ),
        ({"hidden_act": "gelu"}, "hidden_act: silu in the base, gelu"),
        ({"attention_dropout": 0.5, "use_cache": False, "initializer_range": 1.0, "eos_token_id": 7}, ""),
        ({"max_position_embeddings": 99, "transformers_version": "4.1.0", "torch_dtype": "bfloat16"}, ""),
    ],
)
def test_settings_that_change_numbers_are_named(changes, named, toy_base, other, tmp_path):
    target = shutil.copytree(other, tmp_path / "tuned")
    config = json.loads((target / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    differences = load_pair(toy_base, target, dtype="float32").config_differences
    assert named in "; ".join(differences) if named else differences == ()


def test_equal_weights_that_are_run_otherwise_are_another_model(toy_base, tmp_path):
    target = copied(toy_base, tmp_path / "same")
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    pair = load_pair(toy_base, target, dtype="float32")
    ids = torch.tensor([[5, 6, 7]])
    assert not torch.allclose(*(pair.models[side](input_ids=ids).logits for side in ("base", "tuned")), atol=1e-3)


def test_another_number_of_key_value_heads(toy_base, tmp_path):
    target = shutil.copytree(toy_base, tmp_path / "heads")
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"num_key_value_heads": 4}))
    held = load_file(target / "model.safetensors")
    for name, value in held.items():
        if "k_proj" in name or "v_proj" in name:
            held[name] = value.repeat(2, 1)
        if "embed" in name:
            held[name] = value + 1  # another difference, met first
    save_file(held, target / "model.safetensors", metadata={"format": "pt"})
    refused(ModelsIncompatible, "models_incompatible", toy_base, target, "k_proj")


@pytest.mark.parametrize("change", [{"d_model": 64}, {"layers": 3}, {"layers": 1}])
def test_an_adapter_for_another_base(change, toy_base, tmp_path):
    wider = write_toy_base(tmp_path / "wider", **change)
    adapter = write_toy_adapter(tmp_path / "adapter", wider)
    refused(ModelsIncompatible, "models_incompatible", toy_base, adapter, "adapter")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(value, toy_base, toy_adapter, other, tmp_path):
    bad = torch.full((64, 32), value)
    full = copied(other, tmp_path / "full", **{"layers.1.mlp.up_proj": bad})
    refused(ModelRejected, "model_rejected", toy_base, full, "up_proj")
    held = load_file(toy_adapter / "adapter_model.safetensors")
    name = next(key for key in held if "lora_A" in key)
    adapter = copied(toy_adapter, tmp_path / "adapter", **{name: torch.full_like(held[name], value)})
    refused(ModelRejected, "model_rejected", toy_base, adapter, "lora_A")


def test_a_checkpoint_with_missing_weights(toy_base, other, tmp_path):
    broken = copied(other, tmp_path / "broken", **{"layers.1.mlp.up_proj": None})
    refused(ModelRejected, "model_rejected", toy_base, broken, "no weights for 'model.layers.1.mlp.up_proj.weight'")


def test_a_truncated_checkpoint(toy_base, other, tmp_path):
    broken = shutil.copytree(other, tmp_path / "broken")
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[: len(data) // 2])
    refused(ModelRejected, "model_rejected", toy_base, broken, "cannot be loaded")


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_damaged_adapter(name, toy_base, toy_adapter, tmp_path):
    broken = shutil.copytree(toy_adapter, tmp_path / "broken")
    (broken / name).write_bytes((broken / name).read_bytes()[:50])
    with pytest.raises((ModelRejected, ModelsIncompatible)):
        load_pair(toy_base, broken, dtype="float32")


def test_another_tokenizer(toy_base, other, tmp_path):
    target = shutil.copytree(other, tmp_path / "tokens")
    content = json.loads((target / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (target / "tokenizer.json").write_text(json.dumps(content))
    comparison = load_pair(toy_base, target, dtype="float32").tokenizers
    assert comparison.differences == ("model",)
    comparison.check(["c"])
    with pytest.raises(ModelsIncompatible, match="tokenizers differ in 'model'"):
        comparison.check(["c", "a"])


def test_a_token_that_the_prompts_do_not_use_is_no_difference(toy_base, other, tmp_path):
    target = shutil.copytree(other, tmp_path / "tokens")
    content = json.loads((target / "tokenizer.json").read_text())
    number = 1 + max(content["model"]["vocab"].values())
    token = {"id": number, "content": "[PAD]", "single_word": False, "lstrip": False, "rstrip": False}
    content["added_tokens"].append({**token, "normalized": False, "special": True})
    (target / "tokenizer.json").write_text(json.dumps(content))
    comparison = load_pair(toy_base, target, dtype="float32").tokenizers
    assert comparison.differences == ("added_tokens",)
    comparison.check(["a prompt"])
    with pytest.raises(ModelsIncompatible, match="added_tokens"):
        comparison.check(["a [PAD] b"])


@pytest.mark.parametrize("tied", [True, False])
def test_vocabularies_are_compared_on_the_rows_that_both_have(toy_base, other, tmp_path, tied):
    model = AutoModelForCausalLM.from_pretrained(other, dtype=torch.float32)
    rows = model.config.vocab_size
    model.resize_token_embeddings(rows + 13, mean_resizing=False)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 1.5)
    padded = tmp_path / "padded"
    model.save_pretrained(padded)
    pair = load_pair(toy_base, padded, dtype="float32")
    assert pair.rows == rows
    ids = torch.tensor([[1, 2, 3]])
    for side, folder in (("base", toy_base), ("tuned", padded)):
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        assert torch.equal(pair.models[side](input_ids=ids).logits, plain(input_ids=ids).logits[..., :rows])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # PEFT's own, of how it saves
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"use_dora": True}, ["q_proj", "down_proj"]),
        ({"use_rslora": True}, ["q_proj"]),
        ({"trainable_token_indices": [1, 2]}, ["q_proj"]),
        ({"init_lora_weights": "orthogonal"}, ["v_proj"]),
        ({}, r".*\.(q|v)_proj"),
        ({"rank_pattern": {r".*\.1\..*": 4}, "alpha_pattern": {"k_proj": 3}}, ["q_proj", "k_proj"]),
        ({"exclude_modules": r".*\.0\..*"}, ["q_proj"]),
        ({}, ["q_proj", "lm_head"]),
    ],
)
def test_the_view_of_an_adapter_gives_pefts_logits_on_both_sides(toy_base, tmp_path, options, names):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(toy_base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=names, task_type="CAUSAL_LM", **options))
    for value in adapted.parameters():
        if value.requires_grad:
            value.data += 0.05 * torch.randn_like(value)
    adapted.save_pretrained(tmp_path / "adapter")
    base, tuned = verify_checkpoint(toy_base), verify_checkpoint(tmp_path / "adapter")
    check_pair(base, tuned)
    folders = [write_view(one, tmp_path / "views" / name).folder for one, name in ((base, "base"), (tuned, "tuned"))]
    pair = load_pair(*folders, dtype="float32")
    ids = torch.tensor([[1, 2, 3, 5, 8]])
    with torch.no_grad():
        wanted = {"tuned": adapted(input_ids=ids).logits}
        with adapted.disable_adapter():
            wanted["base"] = adapted(input_ids=ids).logits
        for side in ("tuned", "base"):
            with pair.on(side):
                torch.testing.assert_close(pair.models[side](input_ids=ids).logits, wanted[side], atol=1e-5, rtol=1e-5)
    assert not torch.equal(wanted["tuned"], wanted["base"])


def test_the_same_tokenizer_in_an_older_form_is_the_same(toy_base, other, tmp_path):
    target = shutil.copytree(other, tmp_path / "tokens")
    content = json.loads((target / "tokenizer.json").read_text())
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    content["model"].pop("ignore_merges")
    (target / "tokenizer.json").write_text(json.dumps(content))
    assert load_pair(toy_base, target, dtype="float32").kind == "full"


def test_a_checkpoint_without_a_tokenizer(toy_base, other, tmp_path):
    bare = shutil.copytree(other, tmp_path / "bare")
    for file in bare.glob("*token*"):
        file.unlink()
    assert load_pair(toy_base, bare, dtype="float32").kind == "full"
    refused(ModelRejected, "model_rejected", bare, toy_base, "tokenizer")


def test_bfloat16_pairs_load_as_such(toy_base, toy_adapter):
    pair = load_pair(toy_base, toy_adapter, dtype="bfloat16")
    assert {parameter.dtype for parameter in pair.models["tuned"].parameters()} == {torch.bfloat16}
    assert choose_dtype("float32", torch.device("cpu")) == "float32"
