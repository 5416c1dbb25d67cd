"""What transformers, tokenizers and PEFT write is taken: tiny real models of every architecture on the list."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from models_store.errors import ModelRejected, ModelsIncompatible
from models_store.verification import generate_config_keys
from models_store.verification.architectures import ARCHITECTURES
from models_store.verification.verify import verify_checkpoint
from tests import architectures
from tests.checkpoints import check_folders

# PEFT asks transformers for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

SWITCHES = (
    "attention_bias",
    "attention_out_bias",
    "mlp_bias",
    "multi_query",
    "qk_layernorm",
    "qkv_bias",
    "use_bias",
    "use_parallel_residual",
    "use_qk_norm",
    "use_qkv_bias",
)


def tiny(model_type, **changes):
    """A real model of one architecture with random weights."""
    return architectures.tiny(model_type, **changes).to(torch.bfloat16)


def save_tokenizer(folder):
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{number}": number for number in range(3, 60)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<a>", "<b>"]})
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    tokenizer.save_pretrained(folder)


def test_the_committed_lists_are_those_of_the_installed_transformers():
    assert generate_config_keys.KEYS_FILE.read_text(encoding="utf-8") == generate_config_keys.rendered()


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_saved_model_of_every_architecture_is_taken(tmp_path, model_type):
    model = tiny(model_type)
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    verified = verify_checkpoint(tmp_path)
    assert verified.architecture == model_type
    assert verified.n_parameters == model.num_parameters()
    assert verified.dtypes == ("BF16",)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_so_is_one_with_every_switch_turned_and_sharded(tmp_path, model_type):
    known = CONFIG_MAPPING[model_type]().to_dict()
    switched = {key: not known[key] for key in (*SWITCHES, "tie_word_embeddings") if isinstance(known.get(key), bool)}
    tiny(model_type, **switched).save_pretrained(tmp_path, max_shard_size="10KB")
    save_tokenizer(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    verified = verify_checkpoint(tmp_path)
    assert verified.architecture == model_type


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_model_with_a_layer_less_than_its_config_says_is_refused(tmp_path, model_type):
    tiny(model_type).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    if "layer_types" in config:
        config["layer_types"].append("full_attention")
    key = CONFIG_MAPPING[model_type].attribute_map.get("num_hidden_layers", "num_hidden_layers")
    (tmp_path / "config.json").write_text(json.dumps(config | {key: 3}))
    with pytest.raises(ModelRejected, match="is not there"):
        verify_checkpoint(tmp_path)


TARGETS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "gpt_neox": ["query_key_value", "dense"],
    "phi3": ["qkv_proj", "gate_up_proj"],
    "gemma3_text": "all-linear",
}


@pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*")
@pytest.mark.parametrize("model_type", TARGETS)
def test_an_adapter_that_peft_saved_is_taken_and_fits_only_its_base(tmp_path, model_type):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    model = tiny(model_type)
    model.save_pretrained(base)
    save_tokenizer(base)
    config = LoraConfig(r=3, lora_alpha=6, target_modules=TARGETS[model_type], task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(adapter)
    verified = verify_checkpoint(adapter)
    assert (verified.kind, verified.adapter.rank) == ("lora", 3)
    check_folders(base, adapter)

    shallower = tmp_path / "shallower"
    layers = {"n_layer" if model_type == "gpt2" else "num_hidden_layers": 1}
    shallow = {**layers, "layer_types": ["full_attention"]} if model_type == "gemma3_text" else layers
    configuration = type(model.config)(**{**json.loads((base / "config.json").read_text()), **shallow})
    AutoModelForCausalLM.from_config(configuration).save_pretrained(shallower)
    save_tokenizer(shallower)
    with pytest.raises(ModelsIncompatible, match="does not have"):
        check_folders(shallower, adapter)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_a_start_that_rewrites_the_base_is_refused_by_key(tmp_path, start):
    config = LoraConfig(r=3, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=start)
    get_peft_model(tiny("llama").float(), config).save_pretrained(tmp_path)
    with pytest.raises(ModelRejected, match="'init_lora_weights'"):
        verify_checkpoint(tmp_path)


OLDER_CONFIGS = {
    "llama": {
        "_name_or_path": "somewhere/else",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "head_dim": 8,
        "mlp_bias": False,
        "pretraining_tp": 1,
        "rope_scaling": {
            "factor": 8.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.45.0",
        "use_cache": True,
        "_attn_implementation_autoset": True,
    },
    "qwen2": {
        "attention_dropout": 0.0,
        "max_window_layers": 21,
        "rope_theta": 1000000.0,
        "rope_scaling": None,
        "sliding_window": 32768,
        "use_mrope": False,
        "use_sliding_window": False,
    },
    "mistral": {"sliding_window": None, "rope_theta": 10000.0},
    "gemma2": {
        "attn_logit_softcapping": 50.0,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": 30.0,
        "head_dim": 8,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256,
    },
    "gpt2": {
        "activation_function": "gelu_new",
        "n_ctx": 48,
        "summary_type": "cls_index",
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    },
    "gpt_neox": {"rotary_emb_base": 10000, "rotary_pct": 0.25, "use_parallel_residual": True},
}


@pytest.mark.parametrize("model_type", OLDER_CONFIGS)
def test_configs_that_earlier_releases_wrote_are_taken(tmp_path, model_type):
    sized = {"head_dim": 8} if model_type == "gemma2" else {}
    if model_type == "llama":
        sized = {"head_dim": 8}
    tiny(model_type, **sized).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key in ("rope_parameters", "layer_types", "dtype"):
        config.pop(key, None)
    (tmp_path / "config.json").write_text(json.dumps({**config, **OLDER_CONFIGS[model_type]}))
    assert verify_checkpoint(tmp_path)
    AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)


def test_a_copy_without_one_shard_is_refused(tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    tiny("llama").save_pretrained(whole, max_shard_size="10KB")
    save_tokenizer(whole)
    shutil.copytree(whole, part)
    missing = sorted(part.glob("model-*.safetensors"))[0]
    Path(missing).unlink()
    with pytest.raises(ModelRejected, match=missing.name):
        verify_checkpoint(part)
