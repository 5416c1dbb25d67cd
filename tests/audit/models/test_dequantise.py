"""Models in the forms they are deployed in give the numbers of the models they were made from."""

import json

import pytest
import torch
from gguf import GGMLQuantizationType as Type
from transformers import AutoModelForCausalLM

from audit.errors import ModelsIncompatible
from audit.models.loading import load_checkpoint
from audit.models.pair import load_pair
from models_store.verification.pairs import check_pair
from models_store.verification.verify import verify_checkpoint, verify_view
from models_store.view import write_view
from tests.audit.small_models import small_model, write_checkpoint
from tests.packed import write_gguf
from tests.toy import _tokenizer

IDS = torch.arange(3, 43).reshape(2, 20)


def saved(path, shape, seed=0, **changes):
    if shape == "qwen3":
        import transformers

        config = transformers.Qwen3Config(
            vocab_size=len(_tokenizer()), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=128, eos_token_id=2,
        )  # fmt: skip
        torch.manual_seed(seed)
        transformers.Qwen3ForCausalLM(config).save_pretrained(path)
    else:
        small_model(shape, seed, vocab_size=len(_tokenizer()), **changes).save_pretrained(path)
    _tokenizer().save_pretrained(path)
    return path


def view_of(folder, target):
    view = write_view(verify_checkpoint(folder), target)
    assert verify_view(view.folder, view.root).tensors
    return view.folder


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("shape", ["llama", "qwen2", "qwen3"])
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
