import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from models_store.errors import ModelRejected, ModelsIncompatible
from models_store.verification.verify import verify_checkpoint
from tests.architectures import tiny
from tests.checkpoints import check_folders
from tests.tiny import tokenizer_json, write_json

# PEFT asks transformers for an attribute by its old name, and warns that it saves the head.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
]


Q = "base_model.model.model.layers.0.self_attn.q_proj"


def q(layer=0, hidden=16, rank=2, out=None):
    module = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
    return {
        f"{module}.lora_A.weight": np.ones((rank, hidden), np.float32),
        f"{module}.lora_B.weight": np.ones((out or hidden, rank), np.float32),
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("megatron_config", {"a": 1}),
        ("megatron_core", "os"),
        ("peft_type", "IA3"),
        ("peft_type", None),
        ("task_type", "SEQ_CLS"),
        ("modules_to_save", "lm_head"),
        ("modules_to_save", [".*head"]),
        ("bias", "some"),
        ("lora_bias", 1),
        ("ensure_weight_tying", 1),
        ("use_dora", 1),
        ("use_qalora", True),
        ("trainable_token_indices", ["1"]),
        ("trainable_token_indices", [1, 1]),
        ("target_modules", "(a)\\1"),
        ("exclude_modules", "("),
        ("rank_pattern", {"(?i)x": 4}),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "pissa_niter_4"),
        ("init_lora_weights", "corda"),
        ("init_lora_weights", 1),
        ("init_lora_weights", "olora"),
        ("target_parameters", ["x"]),
        ("layer_replication", [[0, 4]]),
        ("arrow_config", {"a": 1}),
        ("use_bdlora", {"a": 1}),
        ("never_heard_of_it", 1),
        ("target_modules", [".*"]),
        ("target_modules", []),
        ("target_modules", None),
        ("target_modules", [1]),
        ("target_modules", ["(a+)+$"]),
        ("r", 0),
        ("r", 10**9),
        ("r", True),
        ("r", "8"),
        ("lora_alpha", -1),
        ("lora_alpha", None),
        ("use_rslora", "yes"),
        ("rank_pattern", {"q_proj": 0}),
        ("rank_pattern", [1]),
        ("alpha_pattern", {"q_proj": "x"}),
        ("layers_to_transform", ["0"]),
        ("base_model_name_or_path", {"a": 1}),
    ],
)
def test_an_option_that_is_on_and_not_taken_is_refused_by_key(make_adapter, key, value):
    with pytest.raises(ModelRejected, match=f"adapter_config.json: '{key}'") as caught:
        verify_checkpoint(make_adapter(**{key: value}))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({**q(rank=3)}, "says rank 2"),
        ({"base_model.model.lm_head.weight": np.ones((2, 2), np.float32)}, "adapts no module"),
        ({**q(), "base_model.model.model.norm.weight": np.ones(2, np.float32)}, "not a LoRA factor"),
        ({**q(), "base_model.model.model.norm.bias": np.ones(2, np.float32)}, "not a LoRA factor"),
        ({**q(), f"{Q}.base_layer.bias": np.ones(16, np.float32)}, "not a LoRA factor"),
        ({**q(), f"{Q}.lora_B.bias": np.ones(16, np.float32)}, "not a LoRA factor"),
        ({**q(), f"{Q}.original_module.weight": np.ones((16, 16), np.float32)}, "not a LoRA factor"),
        (
            {"base_model.model.model.embed_tokens.lora_embedding_A": np.ones((2, 2), np.float32)},
            "is not a module that adapter_config.json targets",
        ),
        ({**q(), "model.layers.0.self_attn.q_proj.lora_A.weight": np.ones((2, 2), np.float32)}, "not a LoRA factor"),
        (dict(list(q().items())[:1]), "lora_B of .* is not there"),
        (dict(list(q().items())[1:]), "lora_A of .* is not there"),
        ({name: array.astype(np.int8) for name, array in q().items()}, "not a matrix of floats"),
        ({name: array.ravel() for name, array in q().items()}, "not a matrix of floats"),
        (
            {
                "base_model.model.x.k_proj.lora_A.weight": np.ones((2, 2), np.float32),
                "base_model.model.x.k_proj.lora_B.weight": np.ones((2, 2), np.float32),
            },
            "is not a module that adapter_config.json targets",
        ),
    ],
)
def test_a_header_that_differs_from_the_config_is_refused(make_adapter, weights, reason):
    with pytest.raises(ModelRejected, match=f"adapter_model.safetensors: .*{reason}"):
        verify_checkpoint(make_adapter(weights=weights, target_modules=["q_proj"]))


def test_a_target_that_nothing_adapts_is_noted_and_still_missed_in_a_base_that_has_it(make_adapter, make_model):
    adapter = make_adapter(weights={**q(0), **q(1)}, target_modules=["q_proj", "o_proj", "w1"])
    [note] = verify_checkpoint(adapter).rewritten
    assert "'o_proj', 'w1'" in note
    with pytest.raises(ModelsIncompatible, match=r"has nothing for 'model\.layers\.0\.self_attn\.o_proj'"):
        check_folders(make_model(), adapter)


@pytest.mark.parametrize("key", ["layers.1.self_attn.q_proj", r"layers\.1\..*", r".*1\.self_attn.[a-q]_proj"])
def test_ranks_of_their_own_are_taken_and_written_out(make_adapter, key):
    weights = {**q(0, rank=2), **q(1, rank=5)}
    numbers = {"rank_pattern": {key: 5}, "alpha_pattern": {key: 12}}
    verified = verify_checkpoint(make_adapter(weights=weights, target_modules=["q_proj"], **numbers))
    assert verified.adapter.rank == 2
    document = verified.documents["adapter_config.json"]
    assert document["rank_pattern"] == {"model.layers.1.self_attn.q_proj": 5}
    alphas = {name: document["alpha_pattern"].get(name, document["lora_alpha"]) for name in document["target_modules"]}
    assert alphas == {"model.layers.0.self_attn.q_proj": 4, "model.layers.1.self_attn.q_proj": 12}


@pytest.mark.parametrize(
    ("chosen", "taken"),
    [
        ({"layers_to_transform": [1]}, False),
        ({"layers_to_transform": 0}, True),
        ({"layers_to_transform": [0], "layers_pattern": "layers"}, True),
        ({"layers_to_transform": [0], "layers_pattern": ["blocks"]}, False),
        ({"exclude_modules": r".*\.1\..*"}, True),
        ({"exclude_modules": r".*\.0\..*"}, False),
    ],
)
def test_what_layers_and_exclusions_leave_out_may_not_be_adapted(make_adapter, chosen, taken):
    folder = make_adapter(weights=q(0), target_modules=["q_proj"], **chosen)
    if taken:
        assert verify_checkpoint(folder).adapter.modules.keys() == {"model.layers.0.self_attn.q_proj"}
    else:
        with pytest.raises(ModelRejected, match="is not a module that"):
            verify_checkpoint(folder)


@pytest.mark.parametrize(
    ("weights", "changes", "reason"),
    [
        ({**q(0), **q(1), **q(2)}, {}, r"adapts 'model\.layers\.2\.self_attn\.q_proj', which the base does not have"),
        ({**q(0, hidden=32), **q(1, hidden=32)}, {}, "maps 32 to 32, in the base 16 to 16"),
        ({**q(0, out=8), **q(1)}, {}, "maps 16 to 8, in the base 16 to 16"),
        (q(0), {}, r"has nothing for 'model\.layers\.1\.self_attn\.q_proj'"),
    ],
)
def test_an_adapter_for_another_base_is_incompatible(make_model, make_adapter, weights, changes, reason):
    adapter = make_adapter(weights=weights, target_modules=["q_proj"], **changes)
    with pytest.raises(ModelsIncompatible, match=reason) as caught:
        check_folders(make_model(), adapter)
    assert caught.value.code == "models_incompatible"
    assert caught.value.hint


def test_layers_can_be_chosen_and_modules_excluded(make_model, make_adapter):
    base = make_model()
    check_folders(base, make_adapter("one", weights=q(0), target_modules=["q_proj"], layers_to_transform=[0]))
    excluded = {"exclude_modules": ["layers.0.self_attn.q_proj"]}
    check_folders(base, make_adapter("two", weights=q(1), target_modules=["q_proj"], **excluded))


@pytest.mark.parametrize(
    ("options", "name", "reason"),
    [
        ({"bias": "all"}, f"{Q}.bias", "is not where PEFT looks for it"),
        ({"bias": "all"}, f"{Q.replace('q_proj', 'k_proj')}.base_layer.bias", "is not where PEFT looks for it"),
        ({"bias": "lora_only"}, "base_model.model.model.norm.bias", "not a LoRA factor"),
        ({"modules_to_save": ["mlp", "up_proj"]}, "base_model.model.model.layers.0.mlp.up_proj.weight", "inside"),
        ({"modules_to_save": ["self_attn"]}, "base_model.model.model.norm.weight", "not a LoRA factor"),
    ],
)
def test_trained_weights_are_where_the_config_and_peft_say(make_adapter, options, name, reason):
    weights = {**q(0), **q(1), name: np.ones((16, 16), np.float32)}
    with pytest.raises(ModelRejected, match=reason):
        verify_checkpoint(make_adapter(weights=weights, target_modules=["q_proj"], **options))


@pytest.mark.parametrize(
    ("options", "tensors", "reason"),
    [
        ({"modules_to_save": ["lm_head"]}, {}, r"has nothing for 'lm_head\.weight'"),
        ({"modules_to_save": ["norm"]}, {"model.norm.weight": (16,)}, r"has nothing for 'model\.layers\.0\.input_"),
        ({"modules_to_save": ["score"]}, {"score.weight": (2, 16)}, "brings 'score.weight', which the base does not"),
        ({"modules_to_save": ["lm_head"]}, {"lm_head.weight": (32, 8)}, "has the shape"),
        ({"bias": "all"}, {"model.norm.bias": (16,)}, "brings 'model.norm.bias', which the base does not have"),
        ({}, {"lm_head.weight": (40, 16), "model.embed_tokens.weight": (41, 16)}, "vocabularies of 40 and 41 rows"),
    ],
)
def test_trained_weights_are_the_bases_in_name_and_shape(make_model, make_adapter, options, tensors, reason):
    trained = {f"base_model.model.{name}": np.ones(shape, np.float32) for name, shape in tensors.items()}
    adapter = make_adapter(weights={**q(0), **q(1), **trained}, target_modules=["q_proj"], **options)
    with pytest.raises(ModelsIncompatible, match=reason):
        check_folders(make_model(), adapter)


@pytest.mark.parametrize(("dtype", "taken"), [("bfloat16", True), ("float32", True), ("float16", False)])
def test_a_copy_may_be_the_bases_widened(tmp_path, dtype, taken):
    model = tiny("llama", tie_word_embeddings=False).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "base")
    write_json(tmp_path / "base" / "tokenizer.json", tokenizer_json())
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM"))
    adapted.save_pretrained(tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(weights)
    copy = "base_model.model.lm_head.base_layer.weight"
    tensors[copy] = tensors[copy].to(getattr(torch, dtype))
    save_file(tensors, weights)
    if taken:
        check_folders(tmp_path / "base", tmp_path / "adapter")
    else:
        with pytest.raises(ModelsIncompatible, match="its copy of 'lm_head'"):
            check_folders(tmp_path / "base", tmp_path / "adapter")
    tensors[copy][0, 0] += 1
    save_file(tensors, weights)
    with pytest.raises(ModelsIncompatible, match="its copy of 'lm_head'"):
        check_folders(tmp_path / "base", tmp_path / "adapter")
